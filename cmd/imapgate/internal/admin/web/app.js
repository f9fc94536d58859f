// The page: it follows the events of the proxy, draws what they say, and asks
// for what they do not carry. All that is drawn comes from one model, and each
// part of the page is a function of it.

import { API } from "./api.js";
import { backendsTable } from "./backends.js";
import * as changes from "./changes.js";
import { Confirm, askToken } from "./dialog.js";
import { byID, h, patch, setText } from "./dom.js";
import { clock, plural } from "./format.js";
import { Live } from "./live.js";
import { answer } from "./lookup.js";
import { Clock, problems } from "./model.js";
import { History, about, figures, problemList, verdict } from "./overview.js";
import { certificatesList, overridesList, recordsShown, reloadsList } from "./records.js";
import { asked as rowsAsked, queryOf, sessionsTable, shownFirst, summary } from "./sessions.js";

const clockOf = new Clock();
const history = new History();
const api = new API(askToken);
const confirm = new Confirm(done);

const model = { status: null, backends: [], pools: [], overrides: [], changes: 0, certificates: [], reloads: [] };
let query = {}; // of the search for sessions
let shown = shownFirst; // of what it finds
let found = null; // what it found: {list, total} or {error}
let route = null; // answer of the lookup
let connection = { kind: "connecting" };
let lastEvent = 0;

const live = new Live(api, {
  onState(state) {
    const was = connection.kind;
    connection = state;
    drawConnection();
    if (state.kind === "live" && was !== "live") refresh.everything();
  },
  onEvent(name, event) {
    if (name !== "status") return;
    Object.assign(model, { status: event.status, backends: event.backends ?? [], pools: event.pools ?? [] });
    clockOf.set(event.status.now);
    history.add(Date.now(), event.status.logins_per_second);
    lastEvent = Date.now();
    draw();
    refresh.afterEvent();
  },
});

// Task runs an asynchronous function, never twice at a time and not more often
// than every pause: a request that comes meanwhile is one more run at the end.
class Task {
  #work;
  #pause;
  #running = false;
  #again = false;
  #timer;
  #last = 0;

  constructor(work, pause) {
    this.#work = work;
    this.#pause = pause;
  }

  run(now = false) {
    if (this.#running) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    const wait = now ? 0 : Math.max(0, this.#last + this.#pause - Date.now());
    this.#timer = setTimeout(() => this.#start(), wait);
  }

  async #start() {
    this.#running = true;
    const began = Date.now();
    try {
      await this.#work();
    } finally {
      // A proxy that takes long to answer is asked less often.
      this.#last = Date.now() + 4 * (Date.now() - began);
      this.#running = false;
      if (this.#again) {
        this.#again = false;
        this.run();
      }
    }
  }
}

// fetchList keeps what there was when the proxy cannot be asked: the connection
// is shown as broken anyway.
const fetchList = (path, name, drawIt) => async () => {
  try {
    model[name] = (await api.get(path))[name] ?? [];
  } catch {
    return;
  }
  drawIt();
};

const sessions = new Task(async () => {
  const asked = query;
  let answered;
  try {
    const { total, sessions: list } = await api.get("v1/sessions", { ...asked, limit: rowsAsked, order: "newest" });
    answered = { total, list: list ?? [] };
  } catch (err) {
    if (err.status === 0 && found) return;
    answered = { error: err.message };
  }
  if (asked !== query) return;
  found = answered;
  drawSessions();
}, 1_000);

const overrides = new Task(async () => {
  try {
    const { total, overrides: list } = await api.get("v1/overrides", { limit: recordsShown });
    Object.assign(model, { overrides: list ?? [], changes: total });
  } catch {
    return;
  }
  drawRecords();
}, 2_000);
const certificates = new Task(fetchList("v1/certificates", "certificates", draw), 2_000);
const reloads = new Task(fetchList("v1/reloads", "reloads", draw), 2_000);

const refresh = {
  seen: "",
  reloaded: "",

  everything() {
    for (const task of [sessions, overrides, certificates, reloads]) task.run(true);
  },

  // afterEvent asks for what an event says has changed.
  afterEvent() {
    if (document.visibilityState === "visible") sessions.run();
    const changed = JSON.stringify([model.status.overrides, model.backends.map((b) => [b.up, b.admin_change, b.weight_change])]);
    if (changed !== this.seen) {
      overrides.run();
      if (route) lookup(route.user);
    }
    this.seen = changed;
    const reloaded = model.status.reload?.at ?? "";
    if (reloaded !== this.reloaded) {
      reloads.run();
      certificates.run();
    }
    this.reloaded = reloaded;
  },
};

function draw() {
  if (!model.status) return;
  const list = problems(model, clockOf);
  const sum = verdict(list);
  setText(byID("attention-title"), sum.text);
  byID("attention").dataset.level = sum.level;
  patch(byID("problems"), problemList(list));
  patch(byID("figures"), figures(model, history, clockOf));
  patch(byID("backends-body"), backendsTable(model, clockOf));
  setText(byID("backends-note"), `${plural(model.backends.length, "backend")}${model.pools.length > 0 ? `, ${plural(model.pools.length, "pool")}` : ""}`);
  setText(byID("instance"), location.hostname);
  setText(byID("about"), about(model));
  byID("main").removeAttribute("aria-busy");
  drawTab(sum);
  drawChoices();
  drawRecords();
  announce(list);
}

function drawTab(sum = verdict(model.status ? problems(model, clockOf) : [])) {
  const news = connection.kind === "live" || connection.kind === "connecting" ? sum.tab : "Not connected";
  const title = news ? `${news} · imapgate` : "imapgate";
  if (document.title !== title) document.title = title;
}

function drawRecords() {
  patch(byID("changes-body"), overridesList(model.overrides, model.changes, clockOf));
  patch(byID("certificates-body"), certificatesList(model.certificates, clockOf));
  patch(byID("reloads-body"), reloadsList(model.reloads, clockOf));
  if (model.status) setText(byID("changes-note"), model.status.overrides.file ? "" : "a restart forgets them");
}

function drawSessions() {
  const searching = Object.values(query).some(Boolean);
  patch(byID("sessions-body"), sessionsTable(found, searching, shown, clockOf));
  setText(byID("sessions-note"), summary(found, query));
  const kick = byID("kick-found");
  kick.hidden = !searching;
  kick.disabled = !found?.total;
  setText(kick, found?.total ? `Kick ${plural(found.total, "session")}` : "Kick");
}

// drawChoices keeps the list of backends that sessions are searched by.
function drawChoices() {
  patch(byID("search-backend"), h("option", { key: "", value: "" }, "all"),
    model.backends.map((b) => h("option", { key: b.name, value: b.name }, b.name)));
}

function drawConnection() {
  const words = { connecting: "Connecting", live: "Live", waiting: "Not connected", locked: "Locked" };
  const broken = connection.kind === "waiting" || connection.kind === "locked";
  byID("link").dataset.kind = connection.kind;
  setText(byID("link-text"), words[connection.kind]);
  if (connection.kind !== "connecting") {
    byID("offline").hidden = !broken;
    document.body.toggleAttribute("data-stale", broken);
  }
  setText(byID("retry"), connection.kind === "locked" ? "Enter token" : "Try now");
  if (broken) {
    const left = Math.max(0, Math.ceil((connection.retryAt - Date.now()) / 1000));
    setText(byID("offline-title"), `Not connected. ${connection.error.message}`);
    setText(byID("offline-text"), [
      lastEvent ? `What you see is from ${clock(lastEvent)}.` : "",
      connection.kind === "waiting" ? `Next attempt in ${left} s.` : "",
    ].join(" "));
    if (!model.status) setText(byID("attention-title"), "Nothing is known yet");
  } else if (connection.kind === "live") {
    setText(byID("offline-title"), "");
  }
  drawTab();
}

let announced = null;

// announce tells screen readers what became wrong or right, once.
function announce(list) {
  const now = new Map(list.map((p) => [p.key, p.title]));
  if (announced) {
    const news = [...now].filter(([key]) => !announced.has(key)).map(([, title]) => title);
    const over = [...announced].filter(([key]) => !now.has(key)).map(([, title]) => `No longer: ${title}`);
    if (news.length + over.length > 0) setText(byID("announce"), [...news, ...over].join(". "));
  }
  announced = now;
}

let doneTimer;

function done(text) {
  const node = byID("done");
  setText(node, text);
  clearTimeout(doneTimer);
  doneTimer = setTimeout(() => setText(node, ""), 6_000);
  refresh.everything();
  if (route) lookup(route.user);
}

const search = byID("search");
let typing;

function searchNow() {
  query = queryOf(new FormData(search));
  shown = shownFirst;
  sessions.run(true);
}

search.addEventListener("submit", (event) => {
  event.preventDefault();
  searchNow();
});
search.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(searchNow, 250);
});
search.addEventListener("reset", () => setTimeout(searchNow));

async function lookup(user) {
  const box = byID("answer");
  try {
    route = await api.get(`v1/route/${encodeURIComponent(user)}`);
    patch(box, answer(route, clockOf));
  } catch (err) {
    route = null;
    patch(box, h("p", { class: "error" }, err.message));
  }
}

byID("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const user = byID("ask-user").value.trim();
  if (user) lookup(user);
});

const actions = {
  drain: ({ backend }) => changes.drain(api, backend, model.pools),
  maint: ({ backend }) => changes.maint(api, backend, model.pools),
  ready: ({ backend }) => changes.ready(api, backend),
  unweigh: ({ backend }) => changes.unweigh(api, backend),
  kick: ({ session }) => changes.kickOne(api, session),
  "kick-user": ({ user }) => changes.kickFound(api, { user }, route.sessions),
  move: () => changes.move(api, route, model.backends),
  hold: ({ user }) => changes.hold(api, user),
  release: ({ user }) => changes.release(api, user),
  unpin: ({ user }) => changes.unpin(api, user),
  reload: () => changes.reload(api),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-action]");
  if (!button) return;
  const { action, backend, session, user } = button.dataset;
  if (action === "find") {
    search.reset();
    byID("search-backend").value = backend;
    searchNow();
    byID("sessions").scrollIntoView();
    byID("search-backend").focus({ preventScroll: true });
    return;
  }
  if (action === "more") {
    shown = rowsAsked;
    drawSessions();
    return;
  }
  const target = {
    user,
    // Changes outlive the backends that they are about.
    backend: model.backends.find((b) => b.name === backend) ?? model.overrides.find((o) => o.stale && o.name === backend),
    session: found?.list?.find((s) => s.id === session),
  };
  if ((backend && !target.backend) || (session && !target.session)) return; // gone meanwhile
  confirm.ask(actions[action](target));
});

byID("kick-found").addEventListener("click", () => confirm.ask(changes.kickFound(api, query, found.total)));
byID("retry").addEventListener("click", () => {
  api.askAgain();
  live.retry();
});

// Ages grow and the countdown runs without any event.
setInterval(() => {
  if (connection.kind === "waiting") drawConnection();
}, 1_000);
setInterval(() => {
  draw();
  drawSessions();
}, 10_000);
setInterval(() => {
  overrides.run();
  certificates.run();
}, 60_000);

drawSessions();
live.run();

// What the answers of the API mean: the condition of a backend, what is wrong,
// and in which order somebody who was woken up wants to hear of it.

import { clock, day, isTime, plural, span } from "./format.js";

// Days before its end at which a certificate is a warning, and an emergency.
const expiresSoon = 21;
const expiresNow = 7;

// Clock tells the time of the proxy: the reader's own clock may be wrong, and
// "since 4 min" has to be right all the same.
export class Clock {
  #ahead = 0;

  set(t) {
    if (isTime(t)) this.#ahead = Date.parse(t) - Date.now();
  }

  now() {
    return Date.now() + this.#ahead;
  }

  // ago returns the seconds since t.
  ago(t) {
    return (this.now() - Date.parse(t)) / 1000;
  }
}

// condition says in one word how a backend is. level is "bad", "warn", "off" or
// "ok"; the lower its rank, the sooner somebody has to look. Without a number of
// sessions it says nothing of them.
export function condition(b) {
  if (!b.up && b.admin !== "maint") {
    return { level: "bad", rank: 0, label: "Down", also: b.admin === "drain" ? "drain" : "" };
  }
  if (b.admin === "maint") {
    return { level: "off", rank: 2, label: "Maintenance", also: b.up ? "" : "down" };
  }
  if (b.admin === "drain") {
    const label = b.sessions === undefined ? "Drain" : b.sessions > 0 ? "Draining" : "Drained";
    return { level: "warn", rank: 1, label, also: "" };
  }
  return { level: "ok", rank: 3, label: "Ready", also: "" };
}

// worstFirst orders backends: what is broken, what people changed, the rest.
export function worstFirst(backends) {
  return [...backends].sort(
    (a, b) => condition(a).rank - condition(b).rank || a.name.localeCompare(b.name, "en", { numeric: true }),
  );
}

// said writes who changed something, when and why.
export function said(change, clockOf) {
  const parts = [];
  if (change.by) parts.push(`by ${change.by}`);
  if (isTime(change.since)) parts.push(`${span(clockOf.ago(change.since))} ago`);
  if (isTime(change.until)) parts.push(`until ${clock(change.until)}`);
  return { why: change.why ?? "", how: parts.join(", ") };
}

// certificateState says how long a certificate is good for.
export function certificateState(cert, clockOf) {
  if (!isTime(cert.not_after)) return { level: "bad", text: cert.source === "self-signed" ? "clients do not trust it" : "not obtained yet" };
  const left = -clockOf.ago(cert.not_after);
  const days = Math.floor(left / 86400);
  if (left <= 0) return { level: "bad", text: `expired ${span(-left)} ago` };
  if (clockOf.ago(cert.not_before) < 0) return { level: "bad", text: `not valid before ${day(cert.not_before)}` };
  const text = `${span(left)} left`;
  if (cert.problem) return { level: "bad", text };
  return { level: days < expiresNow ? "bad" : days < expiresSoon ? "warn" : "ok", text };
}

// certificateName is what people call a certificate.
export const certificateName = (cert) => cert.names?.[0] ?? cert.file ?? "of this proxy's own making";

// certificateSource says where a certificate comes from.
export const certificateSource = (cert) => cert.file ?? cert.source;

// problems lists what needs attention, worst first: {key, level, title, text,
// href}. level is "bad" (users feel it), "warn" (they will) or "note".
export function problems(model, clockOf) {
  const list = [];
  const add = (level, key, href, title, ...texts) =>
    list.push({ level, key, href, title, text: texts.filter(Boolean).join(" · ") });
  const { status } = model;

  for (const b of model.backends) backendProblem(b, clockOf, add);
  for (const p of model.pools) {
    const members = model.backends.filter((b) => p.members.includes(b.name));
    if (p.shared && members.length > 0 && !members.some((b) => b.up && b.admin === "ready")) {
      add("bad", `pool ${p.name}`, "#backends", `Pool ${p.name} takes no new users`, "none of its backends is ready and up");
    }
  }
  if (status.draining) {
    add("warn", "draining", "#main", "This proxy is shutting down", "it accepts no more connections");
  } else if (!status.ready) {
    add("bad", "ready", "#main", "Not ready", (status.missing ?? []).join(", "));
  }
  for (const r of refused(model)) {
    add("bad", `reload ${r.what}`, "#reloads", `The last reload of the ${r.what} was refused`,
      r.errors?.[0], `${span(clockOf.ago(r.at))} ago`, "what was in force before still is");
  }
  if (status.overrides.error) add("bad", "overrides", "#changes", "Changes are not saved", status.overrides.error);
  for (const cert of model.certificates) {
    const state = certificateState(cert, clockOf);
    if (state.level === "ok") continue;
    add(state.level, `cert ${certificateSource(cert)} ${certificateName(cert)}`, "#certificates", `Certificate ${certificateName(cert)}`, state.text, cert.problem);
  }
  const order = { bad: 0, warn: 1, note: 2 };
  return list.sort((a, b) => order[a.level] - order[b.level]);
}

// refused returns the reloads that were refused and that none after them made
// good: one of the configuration reads all the others again.
function refused(model) {
  const list = model.reloads.length > 0 ? model.reloads : [model.status.reload].filter(Boolean);
  const good = new Set();
  const bad = new Map();
  for (const r of list) {
    if (good.has(r.what) || good.has("configuration")) continue;
    if (r.ok) good.add(r.what);
    else if (!bad.has(r.what)) bad.set(r.what, r);
  }
  return [...bad.values()];
}

function backendProblem(b, clockOf, add) {
  const c = condition(b);
  const left = b.sessions > 0 ? `${plural(b.sessions, "session")} left` : "";
  if (c.level === "bad") {
    add("bad", `down ${b.name}`, "#backends", `${b.name} is down`, b.health_why, `for ${span(clockOf.ago(b.health_since))}`, left);
  } else if (c.level !== "ok") {
    const { why, how } = said(b.admin_change ?? {}, clockOf);
    const title = c.level === "off" ? `${b.name} is in maintenance` : `${b.name} is ${c.label.toLowerCase()}`;
    add("note", `admin ${b.name}`, "#backends", title, why, how, left);
  }
}

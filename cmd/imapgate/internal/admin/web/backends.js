// The table of backends.

import { h } from "./dom.js";
import { clock, count, isTime, plural, rate, share, span } from "./format.js";
import { condition, said, worstFirst } from "./model.js";

// stateBadge shows a condition by word and shape, colour only underlines it.
export function stateBadge(c) {
  return [
    h("span", { class: `state ${c.level}` }, h("span", { class: "mark", "aria-hidden": "true" }), c.label),
    c.also ? [" ", h("span", { class: "also" }, `and ${c.also}`)] : null,
  ];
}

// backendsTable draws all backends, the broken ones first.
export function backendsTable(model, clockOf) {
  if (model.backends.length === 0) return h("p", { class: "empty" }, "No backend is configured.");
  const heads = ["Backend", "State", "Why", "Sessions", "Logins/s", "Weight", "Actions"];
  const numbers = new Set(["Sessions", "Logins/s", "Weight"]);
  return h("table", { class: "grid cards backends", role: "table", "aria-labelledby": "backends-title" },
    h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
      heads.map((name) => h("th", { role: "columnheader", scope: "col", class: numbers.has(name) ? "number" : name === "Actions" ? "actions" : null }, name)))),
    h("tbody", { role: "rowgroup" }, worstFirst(model.backends).map((b) => row(b, model, clockOf))));
}

const cell = (label, properties, ...children) => h("td", { role: "cell", "data-label": label, ...properties }, ...children);

function row(b, model, clockOf) {
  const c = condition(b);
  return h("tr", { role: "row", key: b.name, class: c.level, id: `backend-${b.name}` },
    h("th", { role: "rowheader", scope: "row", class: "name" },
      h("strong", null, b.name),
      h("span", { class: "sub" }, breakable(b.address))),
    cell("State", { class: "condition" }, stateBadge(c)),
    cell("Why", { class: "why" }, reasons(b, clockOf)),
    cell("Sessions", { class: "number" }, sessions(b)),
    cell("Logins/s", { class: "number" }, rate(b.logins_per_second)),
    cell("Weight", { class: "number" }, weight(b, model)),
    cell("Actions", { class: "actions" }, buttons(b)));
}

// breakable lets a line end at the dots of an address.
const breakable = (address) => (address ?? "").split(/(?=[.:])/).flatMap((part) => [h("wbr"), part]).slice(1);

// sessions is a button that searches for them.
function sessions(b) {
  if (!b.sessions) return "0";
  return [
    h("button", {
      type: "button", class: "plain", "data-action": "find", "data-backend": b.name,
      "aria-label": `${plural(b.sessions, "session")} of ${b.name}: show`,
    }, count(b.sessions)),
    h("span", { class: "sub" }, plural(b.users, "user")),
  ];
}

function reasons(b, clockOf) {
  const since = isTime(b.health_since)
    ? h("time", { datetime: b.health_since, title: clock(b.health_since) }, `for ${span(clockOf.ago(b.health_since))}`)
    : null;
  const lines = [];
  if (!b.up) lines.push(h("p", { class: "reason" }, b.health_why || "the checks fail", " ", h("span", { class: "sub" }, "down ", since)));
  if (b.logins_waiting > 0) lines.push(h("p", { class: "reason" }, `${plural(b.logins_waiting, "login")} waiting `, h("span", { class: "sub" }, `${b.logins_in_flight} under way, of ${b.logins_at_once} at a time`)));
  if (b.admin_change) {
    const { why, how } = said(b.admin_change, clockOf);
    lines.push(h("p", null, why || b.admin, " ", h("span", { class: "sub" }, how)));
    if (isTime(b.admin_change.deadline)) lines.push(h("p", { class: "sub" }, `who is left is moved at ${clock(b.admin_change.deadline)}`));
  }
  if (b.weight_change) {
    const { why, how } = said(b.weight_change, clockOf);
    lines.push(h("p", null, `weight ${b.weight} instead of ${b.configured_weight}: ${why}`, " ", h("span", { class: "sub" }, how)));
  }
  if (lines.length === 0) lines.push(h("p", { class: "sub" }, "up ", since));
  return lines;
}

// weight shows the weight in effect, and the share of each shared pool that
// comes of it.
function weight(b, model) {
  const shares = model.pools
    .filter((p) => p.members.includes(b.name))
    .map((p) => h("span", { class: "sub share" }, `${share(p.shares?.[b.name] ?? 0)} of ${p.name}`));
  return [h("span", { class: b.weight_change ? "changed" : null }, count(b.weight)), shares];
}

function buttons(b) {
  const button = (action, label) => h("button", {
    type: "button", "data-action": action, "data-backend": b.name, "aria-label": `${label} ${b.name}`, "aria-haspopup": "dialog",
  }, label);
  return [
    b.admin !== "ready" ? button("ready", "Ready") : null,
    b.admin !== "drain" ? button("drain", "Drain") : null,
    b.admin !== "maint" ? button("maint", "Maint") : null,
  ];
}

// Sessions: a search, its result as it changes, and what can be done to them.

import { h } from "./dom.js";
import { bytes, clock, count, plural, span } from "./format.js";

// Rows that are asked for: more than anybody reads, and few enough to draw each
// second. A page begins with less, so that what is below it is in reach.
export const asked = 200;
export const shownFirst = matchMedia("(max-width: 48rem)").matches ? 10 : 25;

// sessionsTable draws the newest of the sessions that were found, as many as
// shown says.
export function sessionsTable(found, searching, shown, clockOf) {
  if (!found) return h("p", { class: "empty" }, "Waiting for the proxy.");
  if (found.error) return h("p", { class: "error" }, found.error);
  if (found.list.length === 0) {
    return h("p", { class: "empty" }, searching ? "No session matches." : "Nobody is logged in.");
  }
  const heads = ["User", "Backend", "From", "Since", "Bytes in / out", "TLS", "Actions"];
  return [
    h("table", { class: "grid cards sessions", role: "table", "aria-labelledby": "sessions-title" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" },
        heads.map((name) => h("th", { role: "columnheader", scope: "col", class: name.startsWith("Bytes") ? "number" : name === "Actions" ? "actions" : null }, name)))),
      h("tbody", { role: "rowgroup" }, found.list.slice(0, shown).map((s) => row(s, clockOf)))),
    found.total > shown ? more(found, shown) : null,
  ];
}

function more(found, shown) {
  const rest = Math.min(found.list.length, asked) - shown;
  return h("p", { class: "more" },
    `The newest ${count(Math.min(shown, found.list.length))} of ${count(found.total)}. `,
    rest > 0
      ? h("button", { type: "button", "data-action": "more" }, `Show ${count(rest)} more`)
      : "A search finds the others.");
}

const cell = (label, properties, ...children) => h("td", { role: "cell", "data-label": label, ...properties }, ...children);

function row(s, clockOf) {
  return h("tr", { role: "row", key: s.id, class: s.ending ? "ending" : null },
    h("th", { role: "rowheader", scope: "row", class: "name" },
      h("strong", null, s.user), h("span", { class: "sub id", title: s.id }, s.id)),
    cell("Backend", null, s.backend, s.ending ? h("span", { class: "sub" }, `ending: ${s.ending}`) : null),
    cell("From", null, remote(s), h("span", { class: "sub" }, s.mechanism)),
    cell("Since", { class: "short" }, h("time", { datetime: s.since, title: clock(s.since) }, span(clockOf.ago(s.since)))),
    cell("Bytes in / out", { class: "number" }, `${bytes(s.bytes_from_client)} / ${bytes(s.bytes_from_backend)}`),
    cell("TLS", { class: "short" }, s.tls || "none"),
    cell("Actions", { class: "actions" }, s.ending ? null : h("button", {
      type: "button", "data-action": "kick", "data-session": s.id, "aria-haspopup": "dialog",
      "aria-label": `Kick ${s.user} from ${remote(s)}`,
    }, "Kick")));
}

// remote is the address of a client.
export const remote = (s) => (s.ip.includes(":") ? `[${s.ip}]:${s.port}` : `${s.ip}:${s.port}`);

// queryOf makes a query of what was typed. The API takes whole names and masks;
// whoever types a part of a name means all that have it in them.
export function queryOf(form) {
  const query = Object.fromEntries([...form].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  if (query.user && !/[*?]|@.*\../.test(query.user)) query.user = `*${query.user}*`;
  return query;
}

// describe says in words what a search looks for.
export function describe(query) {
  const parts = [];
  if (query.user) parts.push(`of ${query.user}`);
  if (query.ip) parts.push(`from ${query.ip}`);
  if (query.backend) parts.push(`on ${query.backend}`);
  return parts.join(" ");
}

// summary is the line beside the heading.
export function summary(found, query) {
  if (!found || found.error) return "";
  const what = describe(query);
  return what ? `${plural(found.total, "session")} ${what}` : plural(found.total, "session");
}

// The answer to "where does this user go, and why".

import { h } from "./dom.js";
import { plural } from "./format.js";
import { condition, said } from "./model.js";
import { stateBadge } from "./backends.js";

const reasons = {
  pin: "pinned by hand",
  assignment: "sessions are there, or were a moment ago",
  user: "a row of the user's own",
  domain: "the row of the domain",
  default: "the default of the configuration",
};

// answer draws the explanation of a lookup.
export function answer(route, clockOf) {
  return [
    h("div", { key: "verdict" },
      h("p", { class: "verdict" }, h("strong", null, route.key), " ", verdict(route)),
      h("ul", { class: "steps" }, steps(route, clockOf).map((step) => h("li", null, step)))),
    route.candidates?.length > 0 ? h("div", { key: "candidates", class: "candidates" }, candidates(route)) : null,
    h("div", { key: "tools", class: "tools" }, tools(route)),
  ];
}

function verdict(route) {
  if (route.unavailable) return ["cannot log in: ", h("strong", { class: "error" }, route.unavailable)];
  const target = ["goes to ", h("strong", null, route.backend)];
  return route.hold ? ["waits, and then ", ...target] : target;
}

function steps(route, clockOf) {
  const list = [];
  const because = reasons[route.reason] ?? route.reason;
  if (because) list.push(`Decided by: ${because}${route.source ? `, ${route.source}` : ""}.`);
  if (route.pool) list.push(`Pool ${route.pool}, slot ${route.slot}.`);
  if (route.address) list.push(`Address ${route.address}.`);
  if (route.failover?.length > 0) list.push(`Should it fail at a login: ${route.failover.join(", then ")}.`);
  if (route.master) list.push(`${route.master} logs in as this user.`);
  if (route.login) list.push(`The backend gets the name ${route.login}.`);
  list.push(route.sessions > 0 ? `${plural(route.sessions, "session")} now.` : "No session now.");
  if (route.pin) list.push(`Pinned to ${route.pin.value}: ${sentence(route.pin, clockOf)}.`);
  if (route.hold) list.push(`Held: ${sentence(route.hold, clockOf)}.`);
  return list;
}

function sentence(override, clockOf) {
  const { why, how } = said(override, clockOf);
  return [why, how].filter(Boolean).join(", ");
}

function candidates(route) {
  return h("table", { class: "grid candidates-grid" },
    h("caption", { class: "hidden" }, "Backends that were considered, in order"),
    h("thead", null, h("tr", null, ["Backend, by rank", "State"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", null, route.candidates.map((c) => h("tr", { key: c.name },
      h("th", { scope: "row", class: "name" }, c.rank ? `${c.rank}. ` : "", c.name,
        h("span", { class: "sub" }, [`weight ${c.weight}`, c.skipped ? `not used: ${c.skipped}` : ""].filter(Boolean).join(" · "))),
      h("td", null, stateBadge(condition(c)))))));
}

function tools(route) {
  const button = (action, label, danger) => h("button", {
    type: "button", "data-action": action, "data-user": route.key, "aria-haspopup": "dialog", class: danger ? "danger" : null,
  }, label);
  return [
    button("move", "Move"),
    route.hold ? button("release", "Release") : button("hold", "Hold"),
    route.pin ? button("unpin", "Unpin") : null,
    // A name with wildcards in it would be taken for a mask of many.
    route.sessions > 0 && !/[*?]/.test(route.key) ? button("kick-user", "Kick", true) : null,
  ];
}

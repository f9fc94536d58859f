// The top of the page: what is wrong, and the figures of the whole proxy.

import { h } from "./dom.js";
import { clock, count, plural, rate, span } from "./format.js";

// History keeps the logins a second of the last minutes, as this page saw them.
export class History {
  #points = [];
  #length = 300_000;

  add(at, value) {
    this.#points.push({ at, value });
    while (this.#points[0].at < at - this.#length) this.#points.shift();
  }

  // line draws them, "" while there are too few.
  line(now) {
    if (this.#points.length < 2) return "";
    const top = Math.max(1, ...this.#points.map((p) => p.value));
    const from = Math.max(now - this.#length, this.#points[0].at);
    const width = Math.max(1, now - from);
    const points = [...this.#points, { at: now, value: this.#points.at(-1).value }];
    return points.map((p) => `${((100 * Math.max(0, p.at - from)) / width).toFixed(1)},${(22 - (20 * p.value) / top).toFixed(1)}`).join(" ");
  }
}

// verdict sums up the problems: the heading of the page and the title of the tab.
export function verdict(problems) {
  const bad = problems.filter((p) => p.level === "bad");
  const warn = problems.filter((p) => p.level === "warn");
  if (bad.length > 0) return { level: "bad", text: plural(bad.length, "problem"), tab: bad[0].title };
  if (warn.length > 0) return { level: "warn", text: plural(warn.length, "warning"), tab: warn[0].title };
  return { level: "ok", text: "No problems", tab: "" };
}

// problemList draws what needs attention.
export const problemList = (problems) => problems.map((p) =>
  h("li", { key: p.key, class: p.level },
    h("a", { href: p.href },
      h("strong", { class: `state ${p.level === "note" ? "off" : p.level}` }, h("span", { class: "mark", "aria-hidden": "true" }), p.title), " ", h("span", null, p.text))));

// figures draws the figures of the whole proxy.
export function figures(model, history, clockOf) {
  const { status } = model;
  const serving = model.backends.filter((b) => b.up && b.admin === "ready").length;
  const rows = (status.table.users ?? 0) + (status.table.domains ?? 0);
  const line = history.line(Date.now());
  return [
    figure("Backends ready", `${serving} of ${model.backends.length}`),
    figure("Sessions", count(status.sessions)),
    figure("Users", count(status.users)),
    figure("Logins/s", rate(status.logins_per_second), line
      ? h("svg", { class: "spark", viewBox: "0 0 100 24", preserveAspectRatio: "none", role: "img", "aria-label": "Logins a second in the last minutes" },
        h("polyline", { points: line }))
      : null),
    figure("Logging in", count(status.connections)),
    figure("Table rows", count(rows)),
    figure("Running for", span(clockOf.ago(status.started))),
  ];
}

const figure = (name, value, extra) => h("div", { key: name },
  h("dt", null, name), h("dd", null, h("span", { class: "value" }, value), extra));

// about says which proxy this is.
export function about({ status }) {
  return [
    `imapgate ${status.build.version} (${status.build.go}, ${status.build.platform})`,
    `process ${status.pid} since ${clock(status.started)}`,
    status.config,
    status.listeners?.length > 0 ? `listens on ${status.listeners.join(", ")}` : "listens nowhere",
  ].filter(Boolean).join(" · ");
}

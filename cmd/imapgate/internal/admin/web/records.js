// The lists beside the tables: what people changed, certificates, reloads.

import { h } from "./dom.js";
import { clock, count, day, isTime, plural, span } from "./format.js";
import { certificateName, certificateSource, certificateState, said } from "./model.js";

// Rows of a list: a page is read, and a shell has all of them.
export const recordsShown = 50;

const more = (total) => (total > recordsShown
  ? h("p", { class: "empty" }, `${count(total - recordsShown)} more: imapgate status -o json`)
  : null);

const ago = (t, clockOf) => h("time", { datetime: t, title: clock(t) }, `${span(clockOf.ago(t))} ago`);

// overridesList draws what people changed and is in force: the first of them.
export function overridesList(overrides, total, clockOf) {
  if (overrides.length === 0) return h("p", { class: "empty" }, "Nobody changed anything: all is as configured.");
  return [
    h("ul", { class: "records" }, overrides.slice(0, recordsShown).map((o) => {
      const { why, how } = said(o, clockOf);
      return h("li", { key: `${o.kind} ${o.name}` },
        h("div", { class: "line" },
          h("p", null, h("strong", null, o.name), " ", what(o)),
          undo(o)),
        o.stale ? h("p", { class: "error" }, `${o.kind === "pin" ? o.value : o.name} is not configured`) : null,
        why ? h("p", null, why) : null,
        isTime(o.deadline) ? h("p", { class: "sub" }, `who is left is moved at ${clock(o.deadline)}`) : null,
        h("p", { class: "sub" }, how));
    })),
    more(total),
  ];
}

function what(o) {
  switch (o.kind) {
    case "admin": return { drain: "takes no new users", maint: "is in maintenance" }[o.value] ?? o.value;
    case "weight": return `has weight ${o.value}`;
    case "pin": return `is pinned to ${o.value}`;
    case "hold": return "is held";
    default: return `${o.kind} ${o.value ?? ""}`;
  }
}

function undo(o) {
  const [action, label] = { admin: ["ready", "Ready"], weight: ["unweigh", "Undo"], pin: ["unpin", "Unpin"], hold: ["release", "Release"] }[o.kind] ?? [];
  return action ? h("button", {
    type: "button", "data-action": action, "aria-label": `${label} ${o.name}`, "aria-haspopup": "dialog",
    ...(o.kind === "admin" || o.kind === "weight" ? { "data-backend": o.name } : { "data-user": o.name }),
  }, label) : null;
}

// certificatesList draws the certificates that clients see, the first to expire
// first.
export function certificatesList(certificates, clockOf) {
  if (certificates.length === 0) return h("p", { class: "empty" }, "No certificate is configured.");
  const sorted = [...certificates].sort((a, b) => (Date.parse(a.not_after) || 0) - (Date.parse(b.not_after) || 0));
  return [
    h("ul", { class: "records" }, sorted.slice(0, recordsShown).map((cert) => {
      const state = certificateState(cert, clockOf);
      const others = (cert.names ?? []).slice(1);
      return h("li", { key: `${certificateSource(cert)} ${certificateName(cert)}` },
        h("div", { class: "line" },
          h("p", null, h("strong", null, certificateName(cert))),
          h("p", { class: `state ${state.level}` }, h("span", { class: "mark", "aria-hidden": "true" }), state.text)),
        others.length > 0 ? h("p", { class: "sub" }, `also ${others.slice(0, 5).join(", ")}${others.length > 5 ? `, and ${others.length - 5} more` : ""}`) : null,
        cert.problem ? h("p", { class: "error" }, cert.problem) : null,
        h("p", { class: "sub" }, cert.key_type ? `until ${day(cert.not_after)} · ${cert.key_type} · ${certificateSource(cert)}` : certificateSource(cert)));
    })),
    more(sorted.length),
  ];
}

// reloadsList draws the last reloads, the newest first, with what was wrong.
export function reloadsList(reloads, clockOf) {
  if (reloads.length === 0) return h("p", { class: "empty" }, "Nothing was reloaded since the start.");
  return [
    h("ul", { class: "records" }, reloads.slice(0, recordsShown).map((r) => h("li", { key: `${r.at} ${r.what}` },
      h("div", { class: "line" },
        h("p", { class: `state ${r.ok ? "ok" : "bad"}` },
          h("span", { class: "mark", "aria-hidden": "true" }), r.ok ? "In force" : "Refused"),
        h("p", { class: "sub" }, ago(r.at, clockOf))),
      h("p", { class: "sub" }, [r.what, r.by, took(r.took_seconds), r.rows > 0 ? plural(r.rows, "row") : ""].filter(Boolean).join(" · ")),
      r.errors?.length > 0 ? h("pre", { tabindex: "0", "aria-label": "What was wrong" }, r.errors.join("\n")) : null))),
    more(reloads.length),
  ];
}

const took = (seconds) => (seconds < 1 ? `${Math.max(1, Math.round(seconds * 1000))} ms` : `${seconds.toFixed(1)} s`);

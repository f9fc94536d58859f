// What people can change from this page: each function returns the question that
// dialog.js asks before it is done.

import { count, plural } from "./format.js";
import { describe, remote } from "./sessions.js";

const reason = {
  name: "why", label: "Reason", required: true,
  hint: "Kept with the change, for whoever looks next.",
};

const loggedReason = { ...reason, hint: "For the log." };

const hours = (n) => new Date(Date.now() + n * 3_600_000).toISOString();

// until is a choice of ends. Its values are hours from now, "" is none.
const until = (name, label, none) => ({
  name, label, kind: "select", value: "",
  options: [["", none], ["0.25", "in 15 minutes"], ["1", "in 1 hour"], ["4", "in 4 hours"], ["12", "in 12 hours"], ["24", "in 1 day"], ["168", "in 1 week"]],
});

const time = (value) => (value ? hours(Number(value)) : undefined);

const backendPath = (name, what) => `v1/backends/${encodeURIComponent(name)}/${what}`;
const userPath = (key, what) => `v1/users/${encodeURIComponent(key)}/${what}`;

// poolsOf says what becomes of new users of a backend.
function newUsers(b, pools) {
  const shared = pools.some((p) => p.shared && p.members.includes(b.name));
  return shared
    ? "Users of shared pools who are not logged in are sent to other backends."
    : "Users whose mail is there and who are not logged in cannot log in.";
}

// drain stops new users.
export const drain = (api, b, pools) => ({
  title: `Drain ${b.name}?`,
  text: [`It takes no new users. ${b.sessions > 0 ? `Its ${plural(b.sessions, "session")} stay, and their users may open more.` : "It has no sessions."}`, newUsers(b, pools)],
  fields: [
    reason,
    until("deadline", "Move who is left", "never"),
    until("until", "Make it ready again", "by hand"),
  ],
  verb: "Drain",
  async send(values) {
    await api.post(backendPath(b.name, "drain"), { why: values.why, deadline: time(values.deadline), until: time(values.until) });
    return `${b.name} takes no new users.`;
  },
});

// maint ends everything at a backend.
export const maint = (api, b, pools) => ({
  title: `Put ${b.name} into maintenance?`,
  text: [`It takes nobody. ${b.sessions > 0 ? `Its ${plural(b.sessions, "session")} are ended.` : "It has no sessions."}`, newUsers(b, pools)],
  fields: [reason, until("until", "Make it ready again", "by hand")],
  verb: "Start maintenance",
  danger: true,
  async send(values) {
    const { ending } = await api.post(backendPath(b.name, "maint"), { why: values.why, until: time(values.until) });
    return `${b.name} is in maintenance${ending > 0 ? `, ${plural(ending, "session")} are being ended` : ""}.`;
  },
});

// ready takes drain and maintenance back.
export const ready = (api, b) => ({
  title: `Make ${b.name} ready?`,
  text: b.stale
    ? ["It is not configured. If it is again some day, it takes users."]
    : [b.up ? "It takes users again." : "It takes users again as soon as the checks find it up.", "Users with sessions elsewhere stay where they are."],
  fields: [loggedReason],
  verb: "Make ready",
  async send(values) {
    await api.post(backendPath(b.name, "ready"), { why: values.why });
    return `${b.name} is ready.`;
  },
});

// unweigh gives a backend its configured weight back.
export const unweigh = (api, b) => ({
  title: `Take the weight of ${b.name} back?`,
  text: [b.stale ? "It is not configured." : "It gets its configured share of new users again.", "Users with sessions stay where they are."],
  fields: [loggedReason],
  verb: "Take back",
  async send(values) {
    await api.post(backendPath(b.name, "weight"), { weight: 0, why: values.why });
    return `${b.name} has its configured weight.`;
  },
});

const rateField = {
  name: "rate", label: "Sessions a second", kind: "number", value: "20", min: 0, max: 100_000,
  hint: "Their clients come back at this rate. 0 ends all at once. Keep the page open until it is done.",
};

// kickFound ends all sessions that a search found.
export const kickFound = (api, query, total) => ({
  title: `Kick ${plural(total, "session")} ${describe(query)}?`,
  text: ["Each gets a BYE between two responses. Most clients log in again at once: to keep them out, hold the user or drain the backend first.",
    "Sessions that begin meanwhile may match, too."],
  fields: [loggedReason, rateField],
  verb: `Kick ${count(total)}`,
  danger: true,
  async send(values) {
    const { sessions } = await api.post("v1/kick", { ...query, why: values.why, rate: Number(values.rate) }, 3_600_000);
    return `${plural(sessions, "session")} told to end.`;
  },
});

// kickOne ends one session.
export const kickOne = (api, s) => ({
  title: `Kick ${s.user}?`,
  text: [`The session from ${remote(s)} on ${s.backend} gets a BYE between two responses. Most clients log in again at once.`],
  fields: [loggedReason],
  verb: "Kick",
  danger: true,
  async send(values) {
    const { sessions } = await api.post("v1/kick", { id: s.id, why: values.why });
    return sessions > 0 ? `${s.user} told to end.` : "The session was gone already.";
  },
});

// hold makes logins of a user wait.
export const hold = (api, key) => ({
  title: `Hold ${key}?`,
  text: ["Logins of this user wait until the hold is released. Sessions go on."],
  fields: [reason, { ...until("until", "Release", "by hand"), value: "1" }],
  verb: "Hold",
  async send(values) {
    await api.post(userPath(key, "hold"), { why: values.why, until: time(values.until) });
    return `Logins of ${key} wait.`;
  },
});

// release ends a hold.
export const release = (api, key) => ({
  title: `Release ${key}?`,
  text: ["Logins that wait go on, and new ones do not wait."],
  fields: [loggedReason],
  verb: "Release",
  async send(values) {
    await api.post(userPath(key, "release"), { why: values.why });
    return `${key} is released.`;
  },
});

// unpin lets the table decide again.
export const unpin = (api, key) => ({
  title: `Unpin ${key}?`,
  text: ["The table says again where this user goes. Sessions stay until they end."],
  fields: [loggedReason],
  verb: "Unpin",
  async send(values) {
    await api.post(userPath(key, "unpin"), { why: values.why });
    return `${key} is not pinned any more.`;
  },
});

// move sends a user to another backend, and pins them there.
export const move = (api, route, backends) => ({
  title: `Move ${route.key}?`,
  text: [`${route.sessions > 0 ? `The ${plural(route.sessions, "session")} of this user are ended` : "This user has no sessions"}; logins wait until they are gone, and then go to the other backend. The mail itself is not moved.`],
  fields: [
    reason,
    { name: "backend", label: "To", kind: "select", required: true, options: backends.filter((b) => b.name !== route.backend).map((b) => [b.name, b.name]) },
    until("until", "Back again", "never"),
  ],
  verb: "Move",
  danger: true,
  async send(values) {
    const { to } = await api.post(userPath(route.key, "move"), { why: values.why, backend: values.backend, until: time(values.until) }, 60_000);
    return `${route.key} goes to ${to}.`;
  },
});

// reload reads all files again.
export const reload = (api) => ({
  title: "Reload?",
  text: ["Configuration, table and certificates are read again. If anything is wrong with them, everything stays as it is. No session ends."],
  fields: [],
  verb: "Reload",
  async send() {
    await api.post("v1/reload", {}, 120_000);
    return "Reloaded.";
  },
});

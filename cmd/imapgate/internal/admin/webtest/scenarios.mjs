// States of a proxy that are hard to bring about with a real one, in the words of
// the API. Times are relative to now.

const ago = (seconds) => new Date(Date.now() - seconds * 1000).toISOString();
const ahead = (seconds) => ago(-seconds);
const hour = 3600;
const day = 24 * hour;

function backend(name, more = {}) {
  return {
    name, address: `${name}.internal.example.org:993`, weight: 100, configured_weight: 100,
    admin: "ready", up: true, health_since: ago(11 * day), sessions: 0, users: 0, pools: ["shared"],
    logins_per_second: 0, logins_in_flight: 0, logins_waiting: 0, logins_at_once: 256, ...more,
  };
}

function session(i, user, on, more = {}) {
  return {
    id: `01K9${String(7_340_021 + i * 977).padStart(8, "0")}`, user, backend: on, listener: ":993", mechanism: i % 4 === 0 ? "XOAUTH2" : "PLAIN",
    tls: i % 5 === 0 ? "TLS 1.2" : "TLS 1.3", ip: i % 3 === 0 ? `2001:db8:4::${(i * 37 + 16).toString(16)}` : `198.51.100.${(i * 7) % 250}`,
    port: 40_000 + ((i * 331) % 20_000), since: ago(20 + i * 13 + i ** 1.7), bytes_from_client: 1200 + i * 310, bytes_from_backend: 48_000 * (i + 1), ...more,
  };
}

// sessionsOn makes as many as the backends say.
function sessionsOn(backends) {
  const left = backends.map((b) => ({ name: b.name, n: b.sessions }));
  const list = [];
  for (let i = 0; left.length > 0; i++) {
    const at = i % left.length;
    list.push(session(i, `${people[(i * 7) % people.length]}@example.org`, left[at].name));
    if (--left[at].n <= 0) left.splice(at, 1);
  }
  return list;
}

const people = ["alice", "bob", "carol", "dietrich.von-und-zu-hohenstein", "erin", "frank", "grace", "heidi", "ivan", "judy"];

// calm is a proxy without any trouble.
export function calm() {
  const backends = [
    backend("mail1", { sessions: 412, users: 301, logins_per_second: 2.4 }),
    backend("mail2", { sessions: 398, users: 287, logins_per_second: 2.1 }),
    backend("mail3", { sessions: 431, users: 310, logins_per_second: 2.6 }),
    backend("archive", { sessions: 18, users: 17, pools: [], logins_per_second: 0.04 }),
  ];
  return {
    status: {
      now: ago(0), build: { version: "v0.4.0", revision: "200596a", go: "go1.26.8", platform: "linux/amd64" }, pid: 1812,
      started: ago(11 * day + 5 * hour), config: "/etc/imapgate/imapgate.yaml", ready: true, missing: [], draining: false,
      listeners: ["[::]:993", "[::]:143"], connections: 7, sessions: 1259, users: 915, logins_per_second: 7.14,
      backends: { up: 4, down: 0, drain: 0, maint: 0 },
      table: { users: 48_211, domains: 37, generation: 12, loaded_at: ago(3 * hour) },
      overrides: { admin: 0, weight: 0, pin: 0, hold: 0, made: 0, file: "/var/lib/imapgate/overrides.json" },
      reload: { at: ago(3 * hour), what: "table", by: "users.map changed", ok: true, took_seconds: 0.213, rows: 48_248 },
    },
    backends,
    pools: [{ name: "shared", shared: true, members: ["mail1", "mail2", "mail3"], shares: { mail1: 1 / 3, mail2: 1 / 3, mail3: 1 / 3 } }],
    sessions: sessionsOn(backends),
    overrides: [],
    certificates: [
      { source: "file", default: true, serves: ["imap.example.org", "mail.example.org"], file: "/etc/imapgate/tls/fullchain.pem", names: ["imap.example.org", "mail.example.org"], key_type: "ECDSA P-256", not_before: ago(29 * day), not_after: ahead(61 * day) },
      { source: "acme", default: false, serves: ["imap.example.net"], names: ["imap.example.net"], key_type: "RSA 2048", not_before: ago(10 * day), not_after: ahead(80 * day) },
    ],
    reloads: [
      { at: ago(3 * hour), what: "table", by: "users.map changed", ok: true, took_seconds: 0.213, rows: 48_248 },
      { at: ago(2 * day), what: "certificates", by: "fullchain.pem changed", ok: true, took_seconds: 0.004, rows: 0 },
    ],
    routes: {
      "carol@example.org": {
        now: ago(0), user: "Carol@Example.org", key: "carol@example.org", backend: "mail3", address: "mail3.internal.example.org:993",
        pool: "shared", reason: "domain", source: "users.map:48102", login: "carol@example.org", failover: ["mail2", "mail1"], slot: 4711, sessions: 2,
        candidates: [
          { name: "mail3", rank: 1, weight: 100, admin: "ready", up: true },
          { name: "mail2", rank: 2, weight: 100, admin: "ready", up: true, skipped: "lower rank" },
          { name: "mail1", rank: 3, weight: 100, admin: "ready", up: true, skipped: "lower rank" },
        ],
      },
    },
  };
}

// night is a proxy at which somebody is called at three in the morning.
export function night() {
  const s = calm();
  const [mail1, mail2, mail3] = s.backends;
  Object.assign(mail2, {
    up: false, health_why: "connect: connection refused (3 checks in a row)", health_since: ago(4 * 60 + 12), sessions: 37, users: 30, logins_per_second: 0,
  });
  Object.assign(mail3, {
    admin: "drain", admin_change: { by: "jana (sudo)", why: "kernel update, ticket 4711", since: ago(38 * 60), until: ahead(3 * hour), deadline: ahead(22 * 60) },
    sessions: 122, users: 98, logins_per_second: 0.2,
  });
  Object.assign(mail1, {
    weight: 50, weight_change: { by: "jana (sudo)", why: "slow disk", since: ago(2 * day) }, sessions: 801, users: 655, logins_per_second: 11.8, logins_in_flight: 256, logins_waiting: 31,
  });
  s.backends.push(backend("mail4", {
    admin: "maint", up: false, health_why: "tls: certificate has expired", health_since: ago(2 * day), admin_change: { by: "ops", why: "new chassis", since: ago(6 * day) },
  }));
  s.pools[0].members.push("mail4");
  s.pools[0].shares = { mail1: 1, mail2: 0, mail3: 0, mail4: 0 };
  Object.assign(s.status, {
    sessions: 978, users: 783, logins_per_second: 12.3, connections: 41,
    backends: { up: 3, down: 2, drain: 1, maint: 1 },
    overrides: { admin: 2, weight: 2, pin: 1, hold: 1, made: 5, file: "/var/lib/imapgate/overrides.json", error: "write /var/lib/imapgate/overrides.json: no space left on device" },
  });
  s.sessions = sessionsOn(s.backends.filter((b) => b.sessions > 0));
  for (const one of s.sessions) {
    if (one.backend === "mail2") one.ending = "backend down";
  }
  s.certificates[1] = {
    source: "file", default: false, serves: ["imap.example.net"], file: "/etc/imapgate/tls/example.net.pem", names: ["imap.example.net"], key_type: "RSA 2048", not_before: ago(87 * day), not_after: ahead(2 * day + 7 * hour),
    problem: "newer files cannot be used: the key is not that of the certificate",
  };
  s.certificates.push({
    source: "acme", default: false, serves: [], names: ["mail.example.net"], next_attempt: ahead(5 * 60),
    problem: "mail.example.net: the CA says dns: no address: mail.example.net must have an address in DNS, that of this host",
  });
  const failed = {
    at: ago(9 * 60), what: "table", by: "users.map changed", ok: false, took_seconds: 0.187, rows: 48_248,
    errors: [
      "users.map:48103:22: unknown target \"mail22\" (did you mean \"mail2\"?)",
      "users.map:48110:1: duplicate of line 211: \"frank@example.org\"",
    ],
  };
  s.status.reload = failed;
  s.reloads.unshift(failed);
  s.overrides = [
    { kind: "admin", name: "mail3", value: "drain", ...mail3.admin_change },
    { kind: "admin", name: "mail4", value: "maint", by: "ops", why: "new chassis", since: ago(6 * day) },
    { kind: "hold", name: "ivan@example.org", by: "jana (sudo)", why: "mailbox repair", since: ago(25 * 60), until: ahead(35 * 60) },
    { kind: "pin", name: "grace@example.org", value: "mail1", by: "ops", why: "moved by hand", since: ago(20 * day) },
    { kind: "weight", name: "mail1", value: "50", by: "jana (sudo)", why: "slow disk", since: ago(2 * day) },
    { kind: "weight", name: "mail0", value: "10", by: "ops", since: ago(90 * day), stale: true },
  ];
  s.routes["carol@example.org"] = {
    ...s.routes["carol@example.org"], backend: "mail1", address: "mail1.internal.example.org:993", failover: [], sessions: 0,
    candidates: [
      { name: "mail3", rank: 1, weight: 100, admin: "drain", up: true, skipped: "drain" },
      { name: "mail2", rank: 2, weight: 100, admin: "ready", up: false, skipped: "down" },
      { name: "mail1", rank: 3, weight: 50, admin: "ready", up: true },
      { name: "mail4", rank: 4, weight: 100, admin: "maint", up: false, skipped: "maint" },
    ],
  };
  return s;
}

// fresh is a proxy that was just started, with nothing in it.
export function fresh() {
  const s = calm();
  Object.assign(s, { sessions: [], pools: [], reloads: [], certificates: [] });
  s.backends = [backend("mail1", { pools: [], health_since: ago(3) })];
  delete s.status.reload;
  Object.assign(s.status, { sessions: 0, users: 0, connections: 0, logins_per_second: 0, started: ago(3), table: { users: 0, domains: 0, generation: 1, loaded_at: ago(3) } });
  s.status.overrides.file = "";
  return s;
}

// hostile has names that are markup, and longer than any column.
export function hostile() {
  const s = calm();
  const markup = "<img src=x onerror=alert(1)>\"'&amp;";
  s.backends[0].health_why = markup;
  s.backends[0].up = false;
  s.sessions = [session(1, markup, "mail1"), session(2, `${"a".repeat(200)}@${"b".repeat(50)}`, "mail2")];
  s.overrides = [{ kind: "pin", name: markup, value: "mail1", by: markup, why: "w".repeat(300), since: ago(1) }];
  s.routes["<b>"] = { ...s.routes["carol@example.org"], key: "<b>", user: "<b>" };
  return s;
}

// crowd has more sessions than a page shows.
export function crowd(n = 5000) {
  const s = calm();
  s.sessions = Array.from({ length: n }, (_, i) => session(i, `user${i}@example.org`, `mail${1 + (i % 3)}`, { since: ago(i) }));
  s.status.sessions = n;
  return s;
}

export { ago, session };

// A stand-in for the admin endpoint: the files of the page, and the API with
// canned answers that the page's own requests change. Tests start it with start;
// from a shell, to look at the page without a proxy:
//
//	node fake.mjs [scenario] [port] [token]

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

import * as scenarios from "./scenarios.mjs";

const web = new URL("../web/", import.meta.url);
const types = { html: "text/html; charset=utf-8", js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" };

// What the page is served with: see web.go.
export const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; font-src 'self'; "
  + "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
  + "require-trusted-types-for 'script'";

export class Fake {
  constructor(state, { token = "", port = 0 } = {}) {
    this.state = state;
    this.token = token;
    this.port = port;
    this.posts = []; // {path, body, headers} of each change
    this.refuse = null; // {code, error} for the next change
    this.wait = null; // a promise that changes wait for
    this.streams = new Set();
    this.opened = 0; // streams since the start
  }

  async start() {
    this.server = createServer((request, response) => {
      this.answer(request, response).catch((err) => {
        response.writeHead(500).end(JSON.stringify({ error: String(err) }));
      });
    });
    await new Promise((resolve) => this.server.listen(this.port, "127.0.0.1", resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
    return this;
  }

  // stop breaks all connections; start may follow, on the same port.
  async stop() {
    if (!this.server.listening) return;
    for (const stream of this.streams) stream.destroy();
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  // change changes the state and tells all who watch.
  change(f) {
    f(this.state);
    this.state.status.now = scenarios.ago(0);
    for (const stream of this.streams) this.tell(stream);
  }

  tell(stream) {
    const { status, backends, pools } = this.state;
    stream.write(`event: status\ndata: ${JSON.stringify({ status, backends, pools })}\n\n`);
  }

  async answer(request, response) {
    const url = new URL(request.url, this.url);
    if (!url.pathname.startsWith("/v1/")) {
      await this.file(url.pathname, response);
      return;
    }
    if (this.token && request.headers.authorization !== `Bearer ${this.token}`) {
      reply(response, 401, { error: "a bearer token is needed" });
      return;
    }
    if (request.method === "POST") {
      await this.post(url, request, response);
      return;
    }
    if (url.pathname === "/v1/events") {
      response.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
      this.opened++;
      this.streams.add(response);
      response.on("close", () => this.streams.delete(response));
      this.state.status.now = scenarios.ago(0);
      this.tell(response);
      return;
    }
    const out = this.get(url);
    if (out) reply(response, 200, out);
    else reply(response, 404, { error: `there is no ${url.pathname}` });
  }

  get(url) {
    const now = scenarios.ago(0);
    const { state } = this;
    switch (url.pathname) {
      case "/v1/status": return state.status;
      case "/v1/backends": return { now, backends: state.backends, pools: state.pools };
      case "/v1/overrides": return { now, total: state.overrides.length, overrides: state.overrides.slice(0, Number(url.searchParams.get("limit") ?? 1e9)) };
      case "/v1/certificates": return { now, certificates: state.certificates };
      case "/v1/reloads": return { now, reloads: state.reloads };
      case "/v1/sessions": {
        const found = this.find(Object.fromEntries(url.searchParams));
        found.sort((a, b) => Date.parse(b.since) - Date.parse(a.since));
        return { now, total: found.length, sessions: found.slice(0, Number(url.searchParams.get("limit") ?? found.length)) };
      }
      default: return state.routes[decodeURIComponent(url.pathname.slice("/v1/route/".length)).toLowerCase()];
    }
  }

  find({ user, ip, backend, id }) {
    const mask = user && new RegExp(`^${user.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")}$`, "i");
    return this.state.sessions.filter((s) =>
      (!mask || mask.test(s.user)) && (!ip || s.ip === ip) && (!backend || s.backend === backend) && (!id || s.id === id));
  }

  async post(url, request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const body = JSON.parse(Buffer.concat(chunks).toString());
    this.posts.push({ path: url.pathname, body, headers: request.headers });
    await this.wait;
    if (this.refuse) {
      const { code, ...failure } = this.refuse;
      this.refuse = null;
      reply(response, code, failure);
      return;
    }
    const [, , kind, name, what] = url.pathname.split("/").map(decodeURIComponent);
    const change = { by: "somebody on this host", why: body.why, since: scenarios.ago(0), until: body.until };
    let out = { sessions: 0 };
    this.change((state) => {
      if (kind === "backends") {
        const b = state.backends.find((one) => one.name === name) ?? { name, unconfigured: true };
        if (what === "weight") {
          state.overrides = state.overrides.filter((o) => o.kind !== "weight" || o.name !== name);
          out = { backend: b, ending: 0 };
          return;
        }
        b.admin = what;
        state.overrides = state.overrides.filter((o) => o.kind !== "admin" || o.name !== name);
        if (what === "ready") delete b.admin_change;
        else {
          b.admin_change = change;
          state.overrides.push({ kind: "admin", name, value: what, ...change });
        }
        state.status.overrides.admin = state.overrides.length;
        out = { backend: b, ending: what === "maint" ? b.sessions : 0 };
      } else if (kind === "users") {
        state.overrides = state.overrides.filter((o) => o.name !== name);
        if (what === "hold") state.overrides.push({ kind: "hold", name, ...change });
        state.status.overrides.hold++;
        out = { user: name, to: body.backend, sessions: 0 };
      } else if (kind === "kick") {
        const found = this.find(body);
        state.sessions = state.sessions.filter((s) => !found.includes(s));
        out = { sessions: found.length };
      }
    });
    reply(response, 200, out);
  }

  async file(path, response) {
    const name = path === "/" ? "index.html" : path.slice(1);
    if (!/^[a-z]+\.[a-z]+$/.test(name)) {
      response.writeHead(404).end();
      return;
    }
    const data = await readFile(new URL(name, web)).catch(() => null);
    if (!data) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, {
      "Content-Type": types[name.split(".").pop()], "Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-cache",
    });
    response.end(data);
  }
}

function reply(response, code, value) {
  response.writeHead(code, { "Content-Type": "application/json" });
  response.end(JSON.stringify(value));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [scenario = "night", port = "0", token = ""] = process.argv.slice(2);
  const fake = await new Fake(scenarios[scenario](), { port: Number(port), token }).start();
  console.log(fake.url);
  setInterval(() => fake.change((state) => {
    state.status.logins_per_second = Math.max(0, state.status.logins_per_second + Math.random() * 2 - 1);
  }), 1000);
}

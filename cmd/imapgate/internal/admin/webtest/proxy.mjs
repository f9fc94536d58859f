// A real imapgate with two small IMAP servers behind it, and clients that log in.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createConnection, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const run = promisify(execFile);
const root = fileURLToPath(new URL("../../../../../", import.meta.url));

// Backend accepts every password, and says nothing of mail.
export class Backend {
  async start(port = 0) {
    this.sockets = new Set();
    this.server = createServer((socket) => this.serve(socket));
    this.server.listen(port, "127.0.0.1");
    await once(this.server, "listening");
    this.port = this.server.address().port;
    return this;
  }

  async stop() {
    if (!this.server.listening) return;
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, "close");
  }

  serve(socket) {
    const capabilities = "IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN";
    let rest = "";
    let waiting = "";
    this.sockets.add(socket);
    socket.on("close", () => this.sockets.delete(socket));
    socket.on("error", () => {});
    socket.write(`* OK [CAPABILITY ${capabilities}] ready\r\n`);
    socket.on("data", (data) => {
      const lines = (rest + data).split("\r\n");
      rest = lines.pop();
      for (const line of lines) {
        if (waiting) {
          socket.write(`${waiting} OK done\r\n`);
          waiting = "";
          continue;
        }
        const [tag, command, , initial] = line.split(" ");
        switch (command.toUpperCase()) {
          case "CAPABILITY":
            socket.write(`* CAPABILITY ${capabilities}\r\n${tag} OK done\r\n`);
            break;
          case "AUTHENTICATE":
            if (initial) socket.write(`${tag} OK [CAPABILITY ${capabilities}] logged in\r\n`);
            else {
              waiting = tag;
              socket.write("+ \r\n");
            }
            break;
          case "ID":
            socket.write(`* ID NIL\r\n${tag} OK done\r\n`);
            break;
          case "LOGOUT":
            socket.end(`* BYE bye\r\n${tag} OK done\r\n`);
            break;
          default:
            socket.write(`${tag} OK done\r\n`);
        }
      }
    });
  }
}

async function freePort() {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

let built;

// binary builds imapgate once for all tests of a process.
async function binary(dir) {
  if (process.env.IMAPGATE) return process.env.IMAPGATE;
  built ??= run("go", ["build", "-o", join(dir, "imapgate"), "./cmd/imapgate"], { cwd: root }).then(() => join(dir, "imapgate"));
  return built;
}

// Proxy is a running imapgate.
export class Proxy {
  async start({ token = "" } = {}) {
    this.dir = await mkdtemp(join(tmpdir(), "imapgate-web-"));
    this.program = await binary(this.dir);
    this.token = token;
    this.mail1 = await new Backend().start();
    this.mail2 = await new Backend().start();
    this.imap = await freePort();
    this.http = await freePort();
    this.socket = join(this.dir, "admin.sock");
    this.url = `http://127.0.0.1:${this.http}/`;
    await run("openssl", ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "90",
      "-subj", "/CN=imap.example.org", "-addext", "subjectAltName=DNS:imap.example.org,DNS:mail.example.org", "-keyout", "key.pem", "-out", "cert.pem"], { cwd: this.dir });
    await writeFile(join(this.dir, "users.map"), "alice@example.org mail1\nbob@example.org mail2\n* shared\n");
    if (token) await writeFile(join(this.dir, "tokens"), `web ${token}\n`, { mode: 0o600 });
    await writeFile(join(this.dir, "imapgate.yaml"), `listen:
  - {address: "127.0.0.1:${this.imap}", tls: none}
  - {address: "127.0.0.1:${await freePort()}", tls: implicit}
tls: {certificates: [{cert: cert.pem, key: key.pem}]}
backends:
  mail1: {address: "127.0.0.1:${this.mail1.port}", tls: none}
  mail2: {address: "127.0.0.1:${this.mail2.port}", tls: none}
pools: {shared: {backends: [mail1, mail2], shared: true, health: {interval: 1s, rise: 1, fall: 1}}}
route: {tables: [users.map]}
login: {default_domain: example.org}
admin: {socket: admin.sock, http: "127.0.0.1:${this.http}"${token ? ", token_file: tokens" : ""}}
state_dir: .
log: {format: json}
`);
    this.log = "";
    this.process = spawn(this.program, ["serve", "-c", "imapgate.yaml"], { cwd: this.dir, stdio: ["ignore", "ignore", "pipe"] });
    this.process.stderr.on("data", (data) => {
      this.log += data;
    });
    this.ended = once(this.process, "exit");
    await this.until("imapgate is ready", async () => (await fetch(`${this.url}readyz`).catch(() => null))?.ok);
    return this;
  }

  // until waits for something, and says what it waited for in vain.
  async until(what, holds) {
    const deadline = Date.now() + 30_000;
    while (!(await holds())) {
      assert.ok(Date.now() < deadline && this.process.exitCode === null, `${what}: never. The log:\n${this.log}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  // command runs imapgate on the running one.
  async command(...args) {
    const { stdout } = await run(this.program, [...args, "--socket", this.socket], { cwd: this.dir });
    return stdout;
  }

  // backends returns what "imapgate backends" says, by name.
  async backends() {
    const answer = JSON.parse(await this.command("backends", "-o", "json"));
    return Object.fromEntries(answer.backends.map((b) => [b.name, b]));
  }

  // login returns a connection that is logged in.
  async login(user) {
    const socket = createConnection(this.imap, "127.0.0.1");
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    let seen = "";
    socket.on("data", (data) => {
      seen += data;
    });
    await this.until("a greeting", () => seen.includes("\r\n"));
    socket.write(`a LOGIN ${user} secret\r\n`);
    await this.until(`a login of ${user}`, () => /^a (OK|NO|BAD)/m.test(seen));
    assert.match(seen, /^a OK/m);
    socket.seen = () => seen;
    return socket;
  }

  async stop() {
    this.process.kill("SIGTERM");
    await this.ended;
    await this.mail1.stop();
    await this.mail2.stop();
    await rm(this.dir, { recursive: true, force: true });
  }
}

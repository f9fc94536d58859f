// The API beside this page: JSON in, JSON out, and a stream of events. Where the
// endpoint wants a token it is asked for once, and kept until the tab is closed.

const tokenKey = "imapgate.token";

// The server sends something at least every 15 s; twice that and a bit is dead.
const silence = 40_000;
const requestTimeout = 20_000;

// APIError is an answer that is not what was asked for. status is 0 when there
// was no answer at all.
export class APIError extends Error {
  constructor(status, message, details = []) {
    super(message);
    this.name = "APIError";
    this.status = status;
    this.details = details;
  }
}

// API sends requests. askToken(rejected) is called when a token is needed; it
// resolves to the token, or to "" when nobody wants to give one.
export class API {
  #askToken;
  #asking = null;
  #declined = false;

  constructor(askToken) {
    this.#askToken = askToken;
  }

  // askAgain lets the next request ask for a token although nobody gave one when
  // they were asked before.
  askAgain() {
    this.#declined = false;
  }

  get(path, query) {
    return this.#json("GET", path, query);
  }

  // post sends a change. Some wait for sessions to end: timeout is in milliseconds.
  post(path, body, timeout = requestTimeout) {
    return this.#json("POST", path, undefined, body ?? {}, timeout);
  }

  // events calls onEvent(name, data) for each event of a stream until it ends,
  // which is an error: it is not meant to.
  async events(path, { signal, onOpen, onEvent }) {
    const watchdog = new AbortController();
    let timer;
    const feed = () => {
      clearTimeout(timer);
      timer = setTimeout(() => watchdog.abort(), silence);
    };
    feed();
    try {
      const response = await this.#send("GET", path, undefined, undefined, {
        accept: "text/event-stream",
        signal: AbortSignal.any([signal, watchdog.signal]),
      });
      onOpen();
      for await (const event of parseEvents(response.body, feed)) onEvent(event.name, event.data);
      throw new APIError(0, "The server ended the connection.");
    } catch (err) {
      if (watchdog.signal.aborted) throw new APIError(0, "The server has gone silent.");
      if (err instanceof APIError) throw err;
      throw new APIError(0, "The connection broke.");
    } finally {
      clearTimeout(timer);
    }
  }

  async #json(method, path, query, body, timeout = requestTimeout) {
    const response = await this.#send(method, path, query, body, {
      accept: "application/json",
      signal: AbortSignal.timeout(timeout),
    });
    return response.status === 204 ? null : response.json();
  }

  async #send(method, path, query, body, { accept, signal }) {
    const url = new URL(path, document.baseURI);
    for (const [name, value] of Object.entries(query ?? {})) {
      if (value !== "" && value !== undefined) url.searchParams.set(name, value);
    }
    for (;;) {
      const token = sessionStorage.getItem(tokenKey);
      const headers = { Accept: accept };
      if (token) headers.Authorization = `Bearer ${token}`;
      if (body !== undefined) headers["Content-Type"] = "application/json";
      let response;
      try {
        response = await fetch(url, {
          method,
          headers,
          signal,
          body: body === undefined ? undefined : JSON.stringify(body),
          cache: "no-store",
          credentials: "same-origin",
          redirect: "error",
        });
      } catch (err) {
        if (err.name === "TimeoutError") throw new APIError(0, "The server does not answer.");
        if (err.name === "AbortError") throw err;
        throw new APIError(0, "The server cannot be reached.");
      }
      if (response.ok) return response;
      if (response.status !== 401) throw await failure(response);
      await this.#newToken(token);
    }
  }

  // newToken asks for a token unless another request did so meanwhile.
  async #newToken(used) {
    if (sessionStorage.getItem(tokenKey) !== used) return;
    if (!this.#declined) {
      this.#asking ??= this.#askToken(Boolean(used)).finally(() => {
        this.#asking = null;
      });
      const token = await this.#asking;
      if (token) {
        sessionStorage.setItem(tokenKey, token);
        return;
      }
      this.#declined = true;
    }
    throw new APIError(401, "A token is needed.");
  }
}

// failure makes an error of a response: the API says what is wrong in JSON.
async function failure(response) {
  try {
    const { error, details } = await response.json();
    if (error) return new APIError(response.status, error, details ?? []);
  } catch {
    // Not JSON: something between the page and the API answered.
  }
  return new APIError(response.status, `The server answered ${response.status}.`);
}

// parseEvents reads server-sent events. EventSource would, but cannot send a
// token.
async function* parseEvents(body, onData) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "";
  let data = [];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onData();
    const lines = (rest + value).split(/\r\n|\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length > 0) yield { name: name || "message", data: data.join("\n") };
        name = "";
        data = [];
      } else if (line.startsWith("event:")) {
        name = line.slice(6).trim();
      } else if (line.startsWith("data:")) {
        data.push(line.slice(5).replace(/^ /, ""));
      }
    }
  }
}

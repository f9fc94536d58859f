// What the proxy says of itself, as it changes: one stream of events, begun anew
// whenever it breaks, and never silently: whoever looks at the page sees that
// what they see is old.

const firstPause = 1_000;
const longestPause = 15_000;

// Live follows the events. onEvent(name, value) is called for each, and
// onState({kind, error, retryAt}) when the connection changes: kind is
// "connecting", "live", "waiting" (until retryAt) or "locked" (a token is missing).
export class Live {
  #api;
  #onEvent;
  #onState;
  #pause = firstPause;
  #wake = () => {};
  #attempt = new AbortController();
  #lastData = 0;

  constructor(api, { onEvent, onState }) {
    this.#api = api;
    this.#onEvent = onEvent;
    this.#onState = onState;
  }

  // run never returns.
  async run() {
    addEventListener("online", () => this.retry());
    addEventListener("visibilitychange", () => {
      // A laptop that slept, or a tab that was frozen, finds a dead connection.
      if (document.visibilityState === "visible" && Date.now() - this.#lastData > 20_000) this.retry();
    });
    for (;;) {
      this.#onState({ kind: "connecting" });
      const error = await this.#follow();
      if (error.status === 401) {
        this.#onState({ kind: "locked", error });
        await this.#sleep(Infinity);
        continue;
      }
      const wait = this.#pause * (0.75 + Math.random() / 2);
      this.#pause = Math.min(this.#pause * 2, longestPause);
      this.#onState({ kind: "waiting", error, retryAt: Date.now() + wait });
      await this.#sleep(wait);
    }
  }

  // retry does not wait any longer.
  retry() {
    this.#pause = firstPause;
    this.#attempt.abort();
    this.#wake();
  }

  async #follow() {
    this.#attempt = new AbortController();
    try {
      await this.#api.events("v1/events", {
        signal: this.#attempt.signal,
        onOpen: () => {
          this.#lastData = Date.now();
        },
        onEvent: (name, data) => {
          this.#lastData = Date.now();
          this.#pause = firstPause;
          const value = JSON.parse(data);
          this.#onState({ kind: "live" });
          this.#onEvent(name, value);
        },
      });
    } catch (err) {
      return err;
    }
    return new Error("The stream ended.");
  }

  #sleep(time) {
    return new Promise((resolve) => {
      const timer = time === Infinity ? undefined : setTimeout(resolve, time);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

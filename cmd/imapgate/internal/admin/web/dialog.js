// The dialogs: one that confirms a change and asks why, one that asks for the
// token. The browser's own <dialog> keeps the focus inside, closes on Escape and
// gives the focus back.

import { byID, h } from "./dom.js";

// Confirm asks before something is changed. A question is
//
//	{title, text, fields, verb, danger, send(values)}
//
// with text a list of paragraphs. A field is {name, label, kind, value, required,
// hint, options, min, max}; kind is that of an <input>, or "select". send makes
// the change and resolves to what was done, in words; when it fails, the dialog
// stays and says why. Whoever closes it before hears of the end all the same.
export class Confirm {
  #dialog = byID("action");
  #form = byID("action-form");
  #question = null;
  #onDone;

  constructor(onDone) {
    this.#onDone = onDone;
    byID("action-cancel").addEventListener("click", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      if (!this.#dialog.open) this.#question = null; // else the next one is asked already
    });
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
  }

  ask(question) {
    this.#question = question;
    byID("action-title").textContent = question.title;
    byID("action-text").replaceChildren(...question.text.map((text) => h("p", null, text)));
    byID("action-fields").replaceChildren(...question.fields.map(field));
    byID("action-error").textContent = "";
    const confirm = byID("action-confirm");
    confirm.textContent = question.verb;
    confirm.classList.toggle("danger", Boolean(question.danger));
    this.#busy(false);
    this.#dialog.showModal();
  }

  async #send() {
    const question = this.#question;
    const values = Object.fromEntries(new FormData(this.#form));
    this.#busy(true);
    byID("action-error").textContent = "";
    let news;
    try {
      news = await question.send(values);
    } catch (err) {
      const text = [err.message, ...(err.details ?? [])].join("\n");
      if (this.#question === question) {
        byID("action-error").textContent = text;
        this.#busy(false);
      } else {
        this.#onDone(`${question.verb}: ${text}`);
      }
      return;
    }
    if (this.#question === question) this.#dialog.close();
    this.#onDone(news);
  }

  #busy(busy) {
    byID("action-confirm").disabled = busy;
    this.#form.setAttribute("aria-busy", String(busy));
  }
}

function field(f, i) {
  const id = `action-field-${f.name}`;
  const properties = { id, name: f.name, required: f.required, autofocus: i === 0, "aria-describedby": f.hint ? `${id}-hint` : null };
  const input = f.kind === "select"
    ? h("select", properties, f.options.map(([value, label]) => h("option", { value, selected: value === f.value }, label)))
    : h("input", { ...properties, type: f.kind ?? "text", value: f.value, min: f.min, max: f.max, maxlength: 200, autocomplete: "off" });
  return h("div", { class: "field" },
    h("label", { for: id }, f.label),
    input,
    f.hint ? h("p", { class: "sub", id: `${id}-hint` }, f.hint) : null);
}

// askToken asks for the token and resolves to it, or to "" when the dialog is
// closed without one.
export function askToken(rejected) {
  const dialog = byID("token");
  const form = byID("token-form");
  const input = byID("token-value");
  byID("token-error").textContent = rejected ? "The server does not accept this token." : "";
  input.value = "";
  return new Promise((resolve) => {
    const done = new AbortController();
    const { signal } = done;
    let token = "";
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      token = input.value.trim();
      if (token) dialog.close();
    }, { signal });
    byID("token-cancel").addEventListener("click", () => dialog.close(), { signal });
    dialog.addEventListener("close", () => {
      input.value = "";
      done.abort();
      resolve(token);
    }, { signal });
    dialog.showModal();
  });
}

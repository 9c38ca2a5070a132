// Who reads: asked for when the broker wants to know. The password stays in memory, and in this tab's
// sessionStorage only when the reader ticks it, under the address of the broker it was given for.
import { $, put } from "./dom.js";
import { broker, shown } from "./settings.js";

const slot = (url) => `edge-agent login ${url}`;

export class Login {
  /** `onLogin(url, credentials)`: credentials null when no name was given. */
  constructor({ url, locked, onLogin }) {
    Object.assign(this, { url, onLogin });
    this.form = $("login-form");
    $("login-broker").value = url;
    $("login-broker").readOnly = locked && url !== "";
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
  }

  /** What this tab was told to remember. */
  remembered() {
    try {
      const kept = JSON.parse(sessionStorage.getItem(slot(this.url)) ?? "null");
      return typeof kept?.username === "string" && typeof kept?.password === "string" ? kept : null;
    } catch {
      return null;
    }
  }

  forget() {
    try {
      sessionStorage.removeItem(slot(this.url));
    } catch {
      // storage is switched off: nothing was kept
    }
  }

  /** `bad`: something was wrong, instead of only wanted. */
  ask(problem, bad = true) {
    put($("login-problem"), problem);
    $("login-problem").toggleAttribute("data-bad", bad);
    $("login").hidden = false;
    const first = this.url ? $("login-name") : $("login-broker");
    if (bad && $("login-name").value) $("login-password").select();
    else first.focus();
  }

  hide() {
    $("login").hidden = true;
    put($("login-problem"), "");
    $("login-password").value = "";
  }

  #submit() {
    const url = broker($("login-broker").value.trim());
    if (!url) {
      this.ask("The broker's address begins with ws:// or wss:// and holds no name or password.");
      return;
    }
    this.url = shown(url);
    const username = $("login-name").value;
    const credentials = username ? { username, password: $("login-password").value } : null;
    if (credentials && $("login-keep").checked) this.#keep(credentials);
    else this.forget();
    put($("login-problem"), "");
    this.onLogin(this.url, credentials);
  }

  #keep(credentials) {
    try {
      sessionStorage.setItem(slot(this.url), JSON.stringify(credentials));
    } catch {
      // storage is full or switched off: asked again next time
    }
  }
}

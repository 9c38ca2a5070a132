// Start: settings, the view that the address asks for, the connection, the login.
import { CaptionPage } from "./caption-page.js";
import { $, put } from "./dom.js";
import { FleetPage } from "./fleet-page.js";
import { Link } from "./link.js";
import { Login } from "./login.js";
import { read } from "./settings.js";

async function given() {
  try {
    const answer = await fetch("settings.json", { cache: "no-cache" });
    return answer.ok ? await answer.json() : {};
  } catch {
    return {}; // served without one: the reader names the broker
  }
}

async function start() {
  const settings = read(await given(), location);
  const page = settings.caption ? new CaptionPage(settings) : new FleetPage(settings);
  let link = null;

  function connect(url, credentials) {
    link?.stop();
    link = new Link({
      mqtt: globalThis.mqtt,
      url,
      filters: page.filters,
      keepalive: page.keepalive,
      onMessage: (topic, payload) => page.message(topic, payload),
      onState: (state) => follow(state, credentials),
    });
    page.use(link);
    link.start(credentials);
  }

  const login = new Login({ url: settings.broker, locked: settings.locked, onLogin: connect });

  function follow(state, credentials) {
    document.body.dataset.link = state.name;
    page.linkState(state);
    if (state.name === "online") {
      login.hide();
      $("sign-out").hidden = credentials === null;
    }
    if (state.name === "refused") {
      login.forget();
      if (credentials) login.ask(`${capital(state.why)}.`);
      else login.ask("This broker wants a name and a password.", false);
    }
    $("taken").hidden = state.name !== "taken";
  }

  $("sign-out").addEventListener("click", () => {
    login.forget();
    location.reload(); // nothing of what was shown stays in memory
  });
  $("taken-again").addEventListener("click", () => link.start());
  if (settings.problem) {
    put($("problem"), settings.problem);
    $("problem").hidden = false;
  }
  if (settings.broker) connect(settings.broker, login.remembered());
  else login.ask("", false);
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

start();

// The connection to the broker: MQTT 5 over a websocket, made again by itself. I/O only; rules are elsewhere.
import { delayMs } from "./backoff.js";
import { LOOPBACK } from "./settings.js";

const CONNECT_MS = 8_000;
const LARGEST_PACKET = 1 << 20;
const BAD_LOGIN = new Set([0x86, 0x87, 4, 5]);
/** A connection that lasted so long was a good one. */
const GOOD_MS = 30_000;
/** After so many short ones in a row somebody else is probably using the same login. */
const SUSPICIOUS = 3;
const TAKEN_OVER = 0x8e;
const NOBODY = 0x10;

/**
 * States told to `onState`: {name: "connecting"}, {name: "online"}, {name: "lost", why, retryMs},
 * {name: "refused", why} (wrong login or no permission: not tried again by itself), {name: "taken"} (another
 * screen uses the same login where the broker allows one: fighting over it would stop both).
 */
export class Link {
  #client = null;
  #timer = 0;
  #failures = 0;
  #wanted = null;
  #onlineAt = 0;
  #short = 0; // connections in a row that stood, but not for long
  #unheard = -1; // message id of the last publication that had no subscriber
  credentials = null;

  constructor({ mqtt, url, filters, keepalive, onMessage, onState }) {
    Object.assign(this, { mqtt, url, filters, keepalive, onMessage, onState });
    // The system tells of a pulled cable sooner than silence does; a broker on this machine needs no cable.
    const near = LOOPBACK.has(new URL(url).hostname);
    addEventListener("offline", () => !near && this.#client && this.#lost("this computer has no network"));
    addEventListener("online", () => this.#timer && this.#open());
  }

  /** Connect, and again after each loss. Credentials: {username, password} or null; default: those of before. */
  start(credentials = this.credentials) {
    this.stop();
    this.credentials = credentials;
    this.#wanted = { credentials };
    this.#failures = this.#short = 0;
    this.#open();
  }

  stop() {
    this.#wanted = null;
    this.#drop();
  }

  /** Publish at QoS 1; `done(problem)` tells what the broker said, "" when it took it. */
  publish(topic, text, expiryS, done) {
    if (!this.#client?.connected) {
      done("not connected to the broker");
      return;
    }
    const properties = { messageExpiryInterval: expiryS, contentType: "application/json" };
    this.#client.publish(topic, text, { qos: 1, retain: false, properties }, (error, packet) => {
      if (error) done(BAD_LOGIN.has(error.code) ? "the broker does not let this login command" : `the broker refused it (${error.message})`);
      else done(this.#unheard === packet?.messageId ? "the device is not connected to the broker" : "");
    });
  }

  #open() {
    this.#drop();
    this.onState({ name: "connecting" });
    const { credentials } = this.#wanted;
    let client;
    try {
      client = this.mqtt.connect(this.url, {
        protocolVersion: 5,
        clientId: `page-${Array.from(crypto.getRandomValues(new Uint8Array(8)), (b) => b.toString(16).padStart(2, "0")).join("")}`,
        clean: true,
        keepalive: this.keepalive,
        connectTimeout: CONNECT_MS,
        reconnectPeriod: 0, // we wait ourselves, longer each time
        resubscribe: false,
        timerVariant: "native", // no worker made of a string: the page's policy forbids it
        properties: { maximumPacketSize: LARGEST_PACKET },
        ...(credentials ?? {}),
      });
    } catch (error) {
      this.#lost(String(error.message ?? error));
      return;
    }
    this.#client = client;
    this.#listen(client);
  }

  #listen(client) {
    const current = (act) => (...given) => this.#client === client && act(...given);
    client.on("connect", current(() => this.#subscribe(client)));
    client.on("message", current((topic, payload) => this.onMessage(topic, payload)));
    // The library keeps reason code 0x10 to itself.
    client.on("packetreceive", current((packet) => {
      if (packet.cmd === "puback" && packet.reasonCode === NOBODY) this.#unheard = packet.messageId;
    }));
    client.on("disconnect", current((packet) => packet.reasonCode === TAKEN_OVER && this.#end({ name: "taken" })));
    client.on("error", (error) => {
      if (this.#client !== client) return; // what an abandoned connection still says
      if (BAD_LOGIN.has(error.code)) this.#end({ name: "refused", why: "the broker refused this name or password" });
    });
    client.on("close", current(() => this.#lost("the broker cannot be reached")));
  }

  #subscribe(client) {
    client.subscribe(this.filters, { qos: 1 }, (error, granted) => {
      if (this.#client !== client) return;
      const denied = error ? error.code >= 0x80 : (granted ?? []).some((one) => one.qos >= 0x80);
      if (denied) this.#end({ name: "refused", why: "the broker does not let this login read the devices" });
      else if (!error) {
        this.#onlineAt = Date.now();
        this.onState({ name: "online" });
      }
    });
  }

  #lost(cause) {
    this.#drop();
    if (!this.#wanted) return;
    this.#judge();
    // Not every broker says why it ends a connection (mosquitto 2.0 does not over websockets).
    const why = this.#short < SUSPICIOUS ? cause : "the broker ends it again and again; is another screen using the same login?";
    const retryMs = delayMs(this.#failures, Math.random());
    this.#failures += 1;
    this.#timer = setTimeout(() => this.#open(), retryMs);
    this.onState({ name: "lost", why, retryMs });
  }

  /** Waiting starts anew only after a connection that lasted: two that throw each other out come to rest. */
  #judge() {
    if (!this.#onlineAt) return;
    const good = Date.now() - this.#onlineAt >= GOOD_MS;
    this.#onlineAt = 0;
    this.#short = good ? 0 : this.#short + 1;
    if (good) this.#failures = 0;
  }

  #end(state) {
    this.stop();
    this.onState(state);
  }

  #drop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    const client = this.#client;
    this.#client = null;
    client?.end(true);
  }
}

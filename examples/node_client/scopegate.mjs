// Checks Scopegate's access tokens (JWTs by ES256) and hears what becomes of them, with Node.js
// alone, as docs/reference/events.md has it. Where an event is about more than a session or a user, this forgets all that it knows:
// that costs one introspection of each token.

import { createHash, createPublicKey, randomUUID, verify } from "node:crypto";

const SESSION_REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";
const ACCOUNT_DISABLED = "https://schemas.openid.net/secevent/risc/event-type/account-disabled";
const REFUSING = [SESSION_REVOKED, ACCOUNT_DISABLED];
const REMEMBERED = 10_000; // Tokens, and subjects of events.

export class InvalidToken extends Error {}
export class Unavailable extends Error {}

const now = () => performance.now();
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const bytes = (part) => Buffer.from(part, "base64url");

export class Scopegate {
  #tokens = new Map(); // By a digest: what a token says, and what introspection answered.
  #touched = new Map(); // By user or session: the event's second, when it came, who is refused.
  #keys = { keys: {}, fetched: -Infinity, tried: -Infinity };
  #clock = null; // What the database's clock showed at a moment of ours.
  #through = null;
  #heardUpTo = -Infinity;
  #completeSince = Infinity; // Tokens, by the database's clock. The next one: answers, by ours.
  #listeningSince = Infinity;
  #keysChanged = -Infinity;
  #bound = 5000;
  introspections = 0;
  events = 0;

  constructor({ issuer, clientId, clientSecret, audience = issuer }) {
    const basic = btoa([clientId, clientSecret].map(encodeURIComponent).join(":"));
    Object.assign(this, { issuer, audience, authorization: `Basic ${basic}` });
  }

  get fresh() {
    return now() - this.#heardUpTo < this.#bound;
  }

  /** Follows one stream after the other, for ever. */
  async follow() {
    for (let failures = 0; ; ) {
      const before = this.#heardUpTo;
      await this.#followOne().catch((error) => console.warn(`no stream: ${error.message}`));
      failures = this.#heardUpTo > before ? 0 : failures + 1;
      await pause(Math.min(50 * 2 ** failures, 5000) * (1 + Math.random() / 2));
    }
  }

  async #followOne() {
    const form = { grant_type: "client_credentials", scope: "read:events" };
    const { access_token } = await this.#ask("/token", form);
    const headers = { Authorization: `Bearer ${access_token}`, "Scopegate-Nonce": randomUUID() };
    if (this.#through !== null) headers["Scopegate-Through"] = `${this.#through}`;
    const silence = new AbortController();
    let timer = setTimeout(() => silence.abort(), 5000);
    const sent = now(); // Before the request leaves: what it proves is no newer.
    try {
      const answer = await fetch(`${this.issuer}/events`, { headers, signal: silence.signal });
      if (!answer.ok) throw new Error(`GET /events answered ${answer.status}`);
      let [rest, begun] = ["", false];
      for await (const text of answer.body.pipeThrough(new TextDecoderStream())) {
        const frames = (rest + text).split("\n\n");
        rest = frames.pop();
        for (const frame of frames) {
          const [, event, data] = /^event: (.*)\ndata: (.*)$/.exec(frame);
          if (begun === (event === "hello")) throw new Error("a stream begins with hello, once");
          if (begun) this.#hear(event, JSON.parse(data));
          else this.#begin(JSON.parse(data), headers["Scopegate-Nonce"], sent);
          begun = true;
        }
        clearTimeout(timer);
        const left = this.#heardUpTo + this.#bound - now();
        timer = setTimeout(() => silence.abort(), left > 0 ? left : this.#bound);
      }
    } finally {
      clearTimeout(timer);
    }
  }

  #begin(said, nonce, sent) {
    if (said.v !== 1 || said.nonce !== nonce || said.iss !== this.issuer)
      throw new Error("it is another's, or of a newer version");
    this.#clock = { sent, now: said.now };
    this.#bound = Math.min(5000, said.bound);
    if (said.resumed && this.#through !== null && said.complete_since <= this.#through) return;
    this.#through = null;
    this.#completeSince = said.complete_since;
    this.#listeningSince = now() + Math.max(0, said.complete_since - said.now);
    this.#keysChanged = now();
  }

  #hear(event, said) {
    if (event === "everything") this.#forget();
    if (event === "set") {
      try {
        this.#happened(said);
      } catch {
        this.#forget(); // What can't be understood counts as everything.
      }
    }
    if (event !== "beat") return;
    this.#through = said.through;
    const moment = this.#clock.sent + (said.through - this.#clock.now);
    this.#heardUpTo = Math.max(this.#heardUpTo, Math.min(moment, now()));
  }

  #happened({ sub_id: about, events }) {
    this.events += 1;
    const [[type, { event_timestamp: second }]] = Object.entries(events);
    const user = about.format === "complex" ? about.user : about;
    if (about.format === "complex" && type === SESSION_REVOKED)
      this.#touch(about.session.id, second, Infinity);
    else if (user?.format !== "iss_sub" || user.iss !== this.issuer) this.#forget();
    else this.#touch(user.sub, second, REFUSING.includes(type) ? second : -Infinity);
  }

  #touch(subject, second, refusedBefore) {
    const before = this.#touched.get(subject)?.refusedBefore ?? -Infinity;
    const touch = { second, at: now(), refusedBefore: Math.max(before, refusedBefore) };
    this.#touched.set(subject, touch);
    if (this.#touched.size > REMEMBERED) this.#forget();
  }

  #databaseTime() {
    return this.#clock.now + (now() - this.#clock.sent);
  }

  #forget() {
    this.#touched.clear();
    this.#listeningSince = this.#keysChanged = now();
    this.#completeSince = this.#databaseTime();
  }

  /** Returns the claims of an access token that is good now. Throws InvalidToken, Unavailable. */
  async check(token) {
    const digest = createHash("sha256").update(token).digest("base64");
    const known = this.#tokens.get(digest) ?? {};
    if (!(known.verified >= this.#keysChanged)) {
      known.says = await this.#verify(token).catch((error) => {
        throw error instanceof Unavailable ? error : new InvalidToken();
      });
      known.verified = this.#keys.fetched;
      this.#tokens.set(digest, known);
      if (this.#tokens.size > REMEMBERED) this.#tokens.delete(this.#tokens.keys().next().value);
    }
    const { says } = known;
    let since = this.fresh ? this.#listeningSince : now() - Math.min(1000, this.#bound);
    let byItself = this.fresh && says.iat * 1000 >= this.#completeSince;
    for (const touch of [says.sid, says.sub].map((subject) => this.#touched.get(subject))) {
      if (says.iat < touch?.refusedBefore) throw new InvalidToken();
      if (says.iat <= touch?.second) [byItself, since] = [false, Math.max(since, touch.at)];
    }
    if (!byItself && !(known.asked >= since)) {
      known.asking ??= this.#introspect(token, known);
      await known.asking;
    }
    const good = { active: true, token_type: "bearer" };
    const current = { ...says, ...(byItself ? good : known.answer) };
    const expired = this.fresh && this.#databaseTime() >= current.exp * 1000;
    if (!current.active || current.token_type !== "bearer" || expired) throw new InvalidToken();
    return current;
  }

  async #introspect(token, known) {
    this.introspections += 1;
    const asked = now();
    const answer = await this.#ask("/introspect", { token }).finally(() => delete known.asking);
    Object.assign(known, { asked, answer });
  }

  async #ask(path, form) {
    const headers = { Authorization: this.authorization };
    const options = form ? { method: "POST", headers, body: new URLSearchParams(form) } : {};
    options.signal = AbortSignal.timeout(2000);
    const answer = await fetch(this.issuer + path, options).catch(() => null);
    if (!answer?.ok) throw new Unavailable(`${path} answered ${answer?.status ?? "nothing"}`);
    return answer.json();
  }

  /** RFC 9068 §4, but for the expiry: the database's clock judges it. Throws whatever is wrong. */
  async #verify(token) {
    const [header, payload, signature] = token.split(".");
    const [head, says] = [header, payload].map((part) => JSON.parse(bytes(part)));
    const key = await this.#key(head.kid);
    const fits = [key.alg, head.alg].every((alg) => alg === "ES256") && head.typ === "at+jwt";
    const meant = says.iss === this.issuer && [says.aud].flat().includes(this.audience);
    const texts = [says.sub, says.sid, says.scope].every((each) => typeof each === "string");
    const times = [says.iat, says.exp].every(Number.isFinite);
    const how = { key: createPublicKey({ key, format: "jwk" }), dsaEncoding: "ieee-p1363" };
    const signed = verify("sha256", Buffer.from(`${header}.${payload}`), how, bytes(signature));
    if (!(fits && meant && texts && times && signed)) throw new InvalidToken();
    return says;
  }

  async #key(kid) {
    const { keys, fetched, tried } = this.#keys;
    const due = tried < this.#keysChanged || now() - tried >= 5000;
    if (due && (fetched < this.#keysChanged || !(kid in keys))) {
      this.#keys.tried = now();
      const published = await this.#ask("/.well-known/jwks.json");
      this.#keys.keys = Object.fromEntries(published.keys.map((key) => [key.kid, key]));
      this.#keys.fetched = this.#keys.tried;
    }
    return this.#keys.keys[kid];
  }
}

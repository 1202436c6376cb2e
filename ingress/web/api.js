// The REST side: login, identities, sessions. Every failure is an ApiError in the service's own words.

const TOKEN_KEY = "mirage.login";

export class ApiError extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }

  get signedOut() {
    return this.status === 401;
  }
}

export class Api {
  #token = sessionStorage.getItem(TOKEN_KEY); // lives as long as the tab

  get signedIn() {
    return this.#token !== null;
  }

  async login(code) {
    const { token } = await this.#call("POST", "/v1/login", { json: { code } });
    this.#token = token;
    sessionStorage.setItem(TOKEN_KEY, token);
  }

  logout() {
    this.#token = null;
    sessionStorage.removeItem(TOKEN_KEY);
  }

  me() {
    return this.#call("GET", "/v1/me");
  }

  identities() {
    return this.#call("GET", "/v1/identities");
  }

  /** `form` is a FormData with `portrait` and/or `voice` files and `consent` as JSON. */
  enrol(form) {
    return this.#call("POST", "/v1/identities", { body: form });
  }

  createSession(wishes) {
    return this.#call("POST", "/v1/sessions", { json: wishes });
  }

  connect(sid) {
    return this.#call("POST", `/v1/sessions/${encodeURIComponent(sid)}/connect`, { json: { role: "publish" } });
  }

  /** Ends the session, also while the page is going away. */
  end(sid) {
    return this.#call("DELETE", `/v1/sessions/${encodeURIComponent(sid)}`, { keepalive: true });
  }

  async #call(method, path, { json, body, keepalive = false } = {}) {
    const headers = {};
    if (this.#token !== null) headers.Authorization = `Bearer ${this.#token}`;
    if (json !== undefined) {
      headers["Content-Type"] = "application/json";
      body = JSON.stringify(json);
    }
    let response;
    try {
      response = await fetch(path, { method, headers, body, keepalive, cache: "no-store" });
    } catch {
      throw new ApiError(0, "unreachable", "The service cannot be reached. Check that it runs.");
    }
    const answer = await response.json().catch(() => null);
    if (!response.ok) throw refusal(response, answer);
    return answer;
  }
}

function refusal(response, answer) {
  const { code = "unknown", detail = `The service answered ${response.status}.` } = answer ?? {};
  return new ApiError(response.status, code, detail);
}

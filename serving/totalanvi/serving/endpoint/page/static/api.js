// The endpoint, asked with the key that was given. Whatever it refuses is said in its own words.

const KEPT = "totalanvi-key";
const SOON = 1000;

/** What the endpoint, or the way to it, has against a request. */
export class Fault extends Error {
  constructor(message, status, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The key; it stays in this tab. */
export const key = {
  get: () => sessionStorage.getItem(KEPT),
  set: (value) => (value ? sessionStorage.setItem(KEPT, value) : sessionStorage.removeItem(KEPT)),
};

const headers = () => (key.get() ? { Authorization: `Bearer ${key.get()}` } : {});

const unreachable = () =>
  new Fault("The endpoint cannot be reached; look whether it runs, and whether this machine has a network.", 0);

function refusal(status, text, retryAfter) {
  let message = `The endpoint answered with status ${status}; ask its operator.`;
  try {
    message = JSON.parse(text).error.message ?? message;
  } catch {
    // Not the endpoint, but something between it and this page.
  }
  return new Fault(message, status, Number(retryAfter) || 0);
}

/** Ask; returns the response, which is one of success. */
export async function ask(path, { method = "GET", range = null, signal = null, keepalive = false } = {}) {
  let response;
  try {
    response = await fetch(path, {
      method, signal, keepalive, cache: "no-store", credentials: "omit", redirect: "error",
      headers: range === null ? headers() : { ...headers(), Range: `bytes=${range[0]}-${range[1]}` },
    });
  } catch (error) {
    throw error.name === "AbortError" ? error : unreachable();
  }
  if (!response.ok) throw refusal(response.status, await response.text(), response.headers.get("Retry-After"));
  return response;
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** All references, or the only one where the endpoint has no list of them. */
export async function references() {
  try {
    return (await askJson("/v1/references")).references;
  } catch (error) {
    if (error.status === 404) return [];
    throw error;
  }
}

/** An address with options behind it; those that are null are left out. */
export function address(path, options) {
  const given = Object.entries(options).filter(([, value]) => value !== null);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

/** Send a file; `progress` is told the share that has left. */
export function send(path, file, progress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onload = () => {
      if (request.status < 300) resolve(JSON.parse(request.responseText));
      else reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
    };
    // An endpoint that refuses a file may hang up before all of it was sent.
    request.onerror = () => reject(new Fault("Expected the endpoint to take the file, found the connection closed; send it again.", 0));
    request.onabort = () => reject(new DOMException("stopped", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

/** Wait until a file is mapped; `progress` is told its state. Asks more seldom the longer it takes: asking is counted. */
export async function mapped(id, progress, signal) {
  for (let pause = SOON / 4; ; pause = Math.min(pause * 1.5, SOON * 3)) {
    try {
      const state = await askJson(`/v1/uploads/${id}`, { signal });
      progress(state);
      if (state.stage === "mapped") return;
    } catch (error) {
      if (error.status !== 429 || error.retryAfter > 120) throw error;
      pause = error.retryAfter * SOON;
    }
    await new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, pause);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        reject(new DOMException("stopped", "AbortError"));
      });
    });
  }
}

// Who uses the page: a one-time code becomes a login token, and a token that no longer holds asks for a new code.

import { notify, withdraw } from "./notices.js";

const box = document.getElementById("login");
const studio = document.getElementById("studio");
const form = document.getElementById("login-form");
const field = document.getElementById("login-code");

/** Signs in with the address's code, or asks for one. `enter` is called once there is a token. */
export async function signIn(api, enter) {
  form.onsubmit = async (event) => {
    event.preventDefault();
    await exchange(api, field.value.trim());
    field.value = "";
    if (api.signedIn) enter();
  };
  const code = takeCode();
  if (code) await exchange(api, code);
  if (api.signedIn) enter();
  else ask();
}

/** Forgets the token and asks for a new code. */
export function signOut(api) {
  api.logout();
  const fix = "Sign in again with a new code from `mirage up`.";
  notify("login", { title: "Your sign-in has expired", fix, name: "signed_out" });
  ask();
}

export function showStudio() {
  box.hidden = true;
  studio.hidden = false;
}

function ask() {
  studio.hidden = true;
  box.hidden = false;
  field.focus();
}

// Takes the code out of the address at once: addresses end up in histories, bookmarks and screenshots.
function takeCode() {
  const address = new URL(location.href);
  const code = address.searchParams.get("code");
  address.searchParams.delete("code");
  if (code !== null) history.replaceState(null, "", address);
  return code;
}

async function exchange(api, code) {
  try {
    await api.login(code);
    withdraw("login");
  } catch (error) {
    if (api.signedIn) return; // the printed address opened again in a tab that is signed in: its code is spent
    const title = error.signedOut ? "This login code does not work" : "Could not sign in";
    notify("login", { title, fix: `The service says: ${error.message}`, name: error.code });
  }
}

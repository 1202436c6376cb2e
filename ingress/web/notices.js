// What went wrong and what to do, as cards above the views. One per key: a newer notice replaces the older.

const host = document.getElementById("notices");

/** Shows a notice. `kind` is "bad" (stopped), "warn" (goes on, but worse) or "info"; `retry` gives it a button. */
export function notify(key, { title, fix = "", kind = "bad", name = "", retry = null }) {
  const card = document.createElement("div");
  card.className = `notice ${kind}`;
  card.dataset.key = key;
  if (name) card.dataset.name = name;
  const text = document.createElement("div");
  const heading = document.createElement("strong");
  heading.textContent = title;
  const advice = document.createElement("p");
  advice.textContent = fix;
  text.append(heading, advice);
  if (retry) {
    const again = document.createElement("button");
    again.type = "button";
    again.textContent = "Try again";
    again.onclick = () => {
      card.remove();
      retry();
    };
    text.append(again);
  }
  const close = document.createElement("button");
  close.type = "button";
  close.className = "close";
  close.textContent = "×";
  close.setAttribute("aria-label", `Dismiss: ${title}`);
  close.onclick = () => card.remove();
  card.append(text, close);
  withdraw(key);
  host.append(card);
}

export function withdraw(key) {
  for (const card of host.querySelectorAll(`[data-key="${key}"]`)) card.remove();
}

export function withdrawAll() {
  host.replaceChildren();
}

// Whose faces are worn: one list for each person before the camera, counted from the left of the picture.
//
// A session keeps the number of people that it started with. While it runs there may be fewer, never more, and only the
// last can be removed: the service knows people by their number, and those behind would change faces.

import { fill } from "./options.js";

const MOST = 4; // of the page; the service takes more, but nobody can tell more lists apart
const COUNTED = ["First", "Second", "Third", "Fourth"];
const GUIDE =
  "Left and right as in the output: your own view is mirrored. Who joins later wears the next face; " +
  "anybody beyond these stays covered.";
const host = document.getElementById("people");
const add = document.getElementById("add-person");
const hint = document.getElementById("people-hint");
const people = () => [...host.querySelectorAll(".person")];
const lists = () => people().map((person) => person.querySelector("select"));
let seats = null; // people that the running session started with

/** Calls `changed` with what to ask of the service when another face is picked, or a person comes or goes. */
export function setUpPeople(changed) {
  const tell = () => {
    show();
    changed(wornFaces());
  };
  host.onchange = tell;
  host.onclick = ({ target }) => {
    const at = people().indexOf(target.closest(".person"));
    if (target.closest("button") === add) addPerson();
    else if (target.closest("button")) removePerson(at);
    else return;
    tell();
  };
}

/** What to ask of the service: one face for whoever is followed, or one for each. A session never mixes the two. */
export function wornFaces() {
  const chosen = lists().map((list) => list.value);
  return (seats ?? chosen.length) > 1 ? { faces: chosen.filter(Boolean) } : { face: chosen[0] };
}

/** `options()` makes the list of faces anew, with the last one for none. */
export function fillFaces(options) {
  for (const list of lists()) fill(list, options());
  if (options().length === 1) for (const person of people().slice(1)) person.remove();
  show();
}

/** Picks a face where one person wears it; who wears which of several faces is not guessed. */
export function chooseFace(id) {
  if (people().length === 1) lists()[0].value = id;
  show();
}

/** While a session runs there are as many people at most as there are now. */
export function lockPeople(locked) {
  seats = locked ? (seats ?? people().length) : null;
  show();
}

function addPerson() {
  const taken = lists().map((list) => list.value);
  const person = people().at(-1).cloneNode(true);
  add.before(person);
  const list = person.querySelector("select");
  list.value = [...list.options].map(({ value }) => value).find((value) => value && !taken.includes(value)) ?? taken[0];
  list.focus();
}

function removePerson(at) {
  people()[at].remove();
  lists()[Math.min(at, people().length - 1)].focus();
}

function show() {
  const all = people();
  const several = all.length > 1;
  for (const [n, person] of all.entries()) {
    const list = person.querySelector("select");
    list.id = n === 0 ? "face" : `face-${n + 1}`;
    list.options[list.options.length - 1].disabled = several; // nobody between others can wear none
    person.querySelector("span").textContent = several ? nameOf(n, all.length) : "Face";
    const remove = person.querySelector("button");
    remove.hidden = !several;
    remove.disabled = seats !== null && n + 1 < all.length;
    remove.ariaLabel = `Remove the ${COUNTED[n].toLowerCase()} person`;
    remove.title = remove.disabled ? "While the session runs, only the last person can be removed" : remove.ariaLabel;
  }
  const why = whyNoMore(all.length);
  add.disabled = why !== "";
  add.title = why || "Another person before the camera, with a face of their own";
  hint.textContent = [several ? GUIDE : "", why].filter(Boolean).join(" ");
}

function whyNoMore(count) {
  if (seats !== null && count >= seats) {
    return "While the session runs, no more people can be added than it started with.";
  }
  if (count >= MOST) return `No more than ${MOST} people can be added.`;
  return lists()[0].value === "" ? "Pick a face here before you add another person." : "";
}

function nameOf(n, count) {
  const places = { 0: " (left)", [count - 1]: " (right)" };
  const middle = count === 3 ? " (middle)" : "";
  return `${COUNTED[n]} person${places[n] ?? middle}`;
}

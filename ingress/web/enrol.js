// The enrol dialog: files and a consent form in, an identity out; the service's own words when it refuses.

const DAY_MS = 86_400_000;
const DEFAULT_DAYS = 90;

const dialog = document.getElementById("enrol");
const form = document.getElementById("enrol-form");
const problem = document.getElementById("enrol-error");
const save = document.getElementById("enrol-save");

/** Wires the dialog. `me()` returns the signed-in subject; `added(identity)` is called after success. */
export function setUpEnrolment(api, me, added) {
  document.getElementById("enrol-open").onclick = open;
  document.getElementById("enrol-cancel").onclick = () => dialog.close();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const wanting = incomplete();
    if (wanting) return complain(wanting);
    save.disabled = true;
    save.textContent = "Adding…";
    try {
      await added(await api.enrol(payload(me())));
      dialog.close();
    } catch (error) {
      complain(error.message);
    } finally {
      save.disabled = false;
      save.textContent = "Add";
    }
  };
}

function open() {
  form.reset();
  problem.hidden = true;
  const { expires } = form.elements;
  expires.min = dateOf(Date.now() + DAY_MS);
  expires.value = dateOf(Date.now() + DEFAULT_DAYS * DAY_MS);
  dialog.showModal();
}

function complain(text) {
  problem.textContent = text;
  problem.hidden = false;
  problem.scrollIntoView({ block: "nearest" });
}

function incomplete() {
  const { portrait, voice } = form.elements;
  return portrait.files.length + voice.files.length === 0 ? "Choose a portrait, a voice recording, or both." : "";
}

function payload(subject) {
  const { portrait, voice, label, expires, statement, purpose, everyone, record } = form.elements;
  const body = new FormData();
  const scope = ["live"];
  if (portrait.files.length > 0) {
    body.append("portrait", portrait.files[0]);
    scope.push("face");
  }
  if (voice.files.length > 0) {
    body.append("voice", voice.files[0]);
    scope.push("voice");
  }
  if (record.checked) scope.push("record");
  const whose = form.elements.subject.value.trim();
  const consent = {
    subject: whose,
    granted_to: everyone.checked ? "*" : subject,
    scope,
    purpose: purpose.value.trim(),
    expires_ms: expires.valueAsNumber + DAY_MS - 1, // to the end of that day
    evidence: { kind: "operator_attestation", statement: statement.value.trim(), by: subject },
  };
  body.append("label", label.value.trim() || whose);
  body.append("consent", JSON.stringify(consent));
  return body;
}

function dateOf(ms) {
  return new Date(ms).toISOString().slice(0, 10);
}

// Why a connection ended, and what follows: reconnect by itself, or tell the person what to do. Pure.

const ENDINGS = {
  1000: ["The session has ended", "Press Start for a new one."],
  1009: ["A message was too large for the service", "Press Start for a new session."],
  4400: ["The service did not understand this page", "Reload the page: it may be older than the service."],
  4401: ["Your sign-in is no longer valid", "Sign in again with a new link or code from `mirage up`."],
  4403: [
    "This is not allowed for you",
    "Consent, scope or policy says no. Pick another face or voice, or ask the operator.",
  ],
  4404: ["The session is over", "It ended on the service. Press Start for a new one."],
  4409: [
    "This session went on somewhere else",
    "Another tab or program publishes to it now. Press Start for a new session here.",
  ],
  4410: ["The service gave the session up", "Press Start for a new one."],
  4429: ["Too much was sent in a short time", "Wait a moment, then press Start again."],
};

const REASONS = {
  consent_revoked: [
    "Consent was withdrawn",
    "The person whose face or voice this is has withdrawn it. Pick another one.",
  ],
  consent_expired: ["Consent has expired", "Enrol the face or voice again, or pick another one."],
  abandoned: [
    "The service gave the session up",
    "Too much of what was sent could not be used. Check camera and microphone, then press Start.",
  ],
  idle: ["The session ended because nothing was sent", "Press Start for a new one."],
};

/** Returns {code, title, fix, resume}: `resume` means that the service may be back soon, so try again by itself. */
export function explainEnd(code, reason = "") {
  const [title, fix] = REASONS[reason] ??
    ENDINGS[code] ?? ["The service cannot be reached", "It may be restarting. Check that it runs, then press Start."];
  return { code, title, fix, resume: !(code in ENDINGS) && !(reason in REASONS) };
}

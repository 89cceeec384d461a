// The steps of the verification around the one that failed.

/** The order in which a request is checked. */
const ORDER = ["body", "signature", "freshness", "decryption", "origin", "receive id", "payload"];

/** Of a request that is signed without its body. */
const IM_ORDER = ["signature", "application", "freshness", "payload"];

const URL_CHECK = ["echostr", "signature", "freshness", "decryption", "receive id", "answer"];

/** The steps that a request of an account goes through, with the one that failed. */
export function stepsOf(failed: string, account: string): string[] {
  const base = account.startsWith("im/") ? IM_ORDER : failed === "echostr" || failed === "answer" ? URL_CHECK : ORDER;
  // "origin" is checked always, and of interest only where it failed.
  return base.filter((step) => step !== "origin" || failed === "origin");
}

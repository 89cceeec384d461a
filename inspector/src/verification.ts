// Refused requests: which belong together, and the steps of the verification around the one that failed.

import type { Refusal } from "./api";

/** Refusals of one account, reason and client that came one after the other. */
export interface Group {
  key: string;
  /** The newest. */
  refusal: Refusal;
  times: number;
  first: string;
}

export function groups(refusals: Refusal[]): Group[] {
  const found: Group[] = [];
  for (const refusal of refusals) {
    const last = found.at(-1);
    const same =
      last &&
      (["account", "path", "reason", "client", "step"] as const).every((name) => last.refusal[name] === refusal[name]);
    if (same) {
      last.times += 1;
      last.first = refusal.time;
    } else found.push({ key: `${refusal.time} ${found.length}`, refusal, times: 1, first: refusal.time });
  }
  return found;
}

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

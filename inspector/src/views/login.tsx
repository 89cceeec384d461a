// Sign in with the admin token; the server keeps it in a cookie that no script can read.

import { useState } from "preact/hooks";
import { ApiError, signIn } from "../api";
import { reason } from "../parts/bits";
import { Logo, Switches } from "../parts/frame";
import { words } from "../settings";

export function Login({ done }: { done: () => void }) {
  const t = words();
  const [token, setToken] = useState("");
  const [failed, setFailed] = useState<unknown>(null);
  const [running, setRunning] = useState(false);
  const submit = async (event: Event) => {
    event.preventDefault();
    setRunning(true);
    setFailed(null);
    try {
      await signIn(token.trim());
      done();
    } catch (error) {
      setFailed(error);
      setRunning(false);
    }
  };
  const isWrong = failed instanceof ApiError && (failed.status === 401 || failed.status === 403);
  return (
    <main class="login">
      <form onSubmit={(event) => void submit(event)}>
        <Logo />
        <h1>{t.login}</h1>
        <p>{t.loginText}</p>
        <label>
          <span>{t.token}</span>
          <input
            type="password"
            name="token"
            autocomplete="current-password"
            required
            autofocus
            value={token}
            aria-invalid={isWrong}
            aria-describedby="login-problem"
            onInput={(event) => setToken(event.currentTarget.value)}
          />
        </label>
        <p id="login-problem" role="alert" class={failed === null ? "" : "notice bad"}>
          {failed === null ? "" : isWrong ? t.wrongToken : reason(failed)}
        </p>
        <button type="submit" class="primary" disabled={running || token.trim() === ""}>
          {t.login}
        </button>
        <p class="quiet">{t.loginHelp}</p>
      </form>
      <div class="login-switches">
        <Switches />
      </div>
    </main>
  );
}

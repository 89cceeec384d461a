// Modal dialogs on the browser's own `<dialog>`, which keeps the focus inside and gives it back.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { words } from "../settings";
import { reason } from "./bits";

interface DialogProps {
  title: string;
  close: () => void;
  children: ComponentChildren;
}

export function Dialog({ title, close, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    dialog.current?.showModal();
  }, []);
  return (
    <dialog ref={dialog} aria-labelledby="dialog-title" onClose={close}>
      <h2 id="dialog-title">{title}</h2>
      {children}
    </dialog>
  );
}

interface ConfirmProps {
  title: string;
  text: string;
  action: string;
  dangerous?: boolean;
  run: () => Promise<void>;
  close: () => void;
}

/** Asks before something is done; stays open with the reason when that fails. */
export function Confirm({ title, text, action, dangerous = false, run, close }: ConfirmProps) {
  const t = words();
  const [running, setRunning] = useState(false);
  const [failed, setFailed] = useState<unknown>(null);
  const submit = async (event: Event) => {
    event.preventDefault();
    setRunning(true);
    try {
      await run();
      close();
    } catch (error) {
      setFailed(error);
      setRunning(false);
    }
  };
  return (
    <Dialog title={title} close={close}>
      <form onSubmit={(event) => void submit(event)}>
        <p>{text}</p>
        {failed !== null && (
          <p class="notice bad" role="alert">
            {reason(failed)}
          </p>
        )}
        <div class="actions end">
          <button type="button" onClick={close} autofocus={dangerous}>
            {t.cancel}
          </button>
          <button type="submit" class={dangerous ? "danger" : "primary"} disabled={running} autofocus={!dangerous}>
            {action}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

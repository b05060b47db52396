import { useEffect, useRef, useState } from 'preact/hooks';
import { changePassword, type Session } from '../api/session';

const LENGTH_MIN = 10;

/** Asks for the old password and a new one. Other sessions end with the change; this one goes on. */
export function ChangePassword({ session, onClose }: { session: Session; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [old, setOld] = useState('');
  const [fresh, setFresh] = useState('');
  const [again, setAgain] = useState('');
  const [problem, setProblem] = useState('');
  const [busy, setBusy] = useState(false);
  const [done, setDone] = useState(false);
  useEffect(() => dialog.current?.showModal(), []);

  const submit = async (): Promise<void> => {
    if (fresh !== again) {
      setProblem('The new password is not the same in both fields.');
      return;
    }
    setBusy(true);
    setProblem('');
    try {
      await session.fresh();
      await changePassword(session.headers(), old, fresh);
      setDone(true);
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setOld('');
      setFresh('');
      setAgain('');
      setBusy(false);
    }
  };

  const field = (id: string, label: string, kind: string, value: string, set: (text: string) => void) => (
    <>
      <label for={id}>{label}</label>
      <input
        id={id}
        class="sign-in-field"
        type="password"
        autocomplete={kind}
        required
        minLength={kind === 'new-password' ? LENGTH_MIN : undefined}
        value={value}
        aria-describedby="change-password-problem"
        onInput={(event) => set(event.currentTarget.value)}
      />
    </>
  );
  return (
    <dialog ref={dialog} class="change-password" aria-label="Change password" onClose={onClose}>
      <form
        class="sign-in-form"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <h1>Change password</h1>
        {done ? (
          <p role="status">Your password is changed, and you are signed out everywhere else.</p>
        ) : (
          <>
            {field('change-password-old', 'Old password', 'current-password', old, setOld)}
            {field('change-password-new', 'New password', 'new-password', fresh, setFresh)}
            {field('change-password-again', 'New password again', 'new-password', again, setAgain)}
            <p id="change-password-problem" class="sign-in-problem" role="alert">
              {problem}
            </p>
            <button type="submit" class="button primary" disabled={busy}>
              {busy ? 'Changing…' : 'Change password'}
            </button>
          </>
        )}
        <button type="button" class="button" onClick={() => dialog.current?.close()}>
          {done ? 'Close' : 'Cancel'}
        </button>
      </form>
    </dialog>
  );
}

import { useState } from 'preact/hooks';
import { isSendable, whoIs, type Me, type Session } from '../api/session';

const EVERY_TENANT = '*';

/** Asks for an API key, and for a tenant when the key has several. */
export function SignIn({ session }: { session: Session }) {
  const [key, setKey] = useState('');
  const [me, setMe] = useState<Me | null>(null);
  const [tenant, setTenant] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(session.why);

  const submit = async (): Promise<void> => {
    const given = { key: key.trim(), tenant: tenant.trim() };
    if (!isSendable(given.key)) {
      setProblem('Paste the whole key: it begins with ms_ and has no spaces.');
      return;
    }
    setBusy(true);
    setProblem('');
    try {
      const owner = await whoIs({ key: given.key, tenant: '' });
      if (!owner.verbs.includes('read')) throw new Error(`The key ${owner.name} may not read data.`);
      if (owner.tenants.length > 1 && given.tenant === '') {
        setMe(owner);
        setTenant(owner.tenants[0] ?? '');
      } else {
        session.signIn(given);
      }
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };

  return (
    <main class="sign-in">
      <form
        class="sign-in-form"
        aria-label="Sign in"
        onSubmit={(event) => {
          event.preventDefault();
          void submit();
        }}
      >
        <h1>Millstream</h1>
        <p>This server asks for an API key. It stays in this tab and is gone when you close it.</p>
        <label for="sign-in-key">API key</label>
        <input
          id="sign-in-key"
          class="sign-in-field"
          type="password"
          autocomplete="off"
          spellcheck={false}
          placeholder="ms_…"
          required
          autofocus
          value={key}
          aria-invalid={problem !== ''}
          aria-describedby="sign-in-problem"
          onInput={(event) => {
            setKey(event.currentTarget.value);
            setMe(null);
            setTenant('');
          }}
        />
        {me !== null && !me.tenants.includes(EVERY_TENANT) && (
          <>
            <label for="sign-in-tenant">Tenant</label>
            <select id="sign-in-tenant" class="sign-in-field" value={tenant} onChange={(event) => setTenant(event.currentTarget.value)}>
              {me.tenants.map((name) => (
                <option key={name} value={name}>
                  {name}
                </option>
              ))}
            </select>
          </>
        )}
        <p id="sign-in-problem" class="sign-in-problem" role="alert">
          {problem}
        </p>
        <button type="submit" class="button primary" disabled={busy}>
          {busy ? 'Checking…' : 'Sign in'}
        </button>
      </form>
    </main>
  );
}

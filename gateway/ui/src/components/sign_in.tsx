import { useEffect, useState } from 'preact/hooks';
import {
  isSendable,
  renewByCookie,
  signInByPassword,
  waysIn,
  whoIs,
  type AccessToken,
  type Me,
  type Provider,
  type Session,
} from '../api/session';

const EVERY_TENANT = '*';
const TITLES: Readonly<Record<string, string>> = { github: 'GitHub', google: 'Google', okta: 'Okta', oidc: 'single sign-on' };

/** Where a provider is to send the browser back to: the page as it is now. */
function loginUrl(provider: Provider): string {
  return `${provider.login}?return_to=${encodeURIComponent(`/${location.search}`)}`;
}

/**
 * Asks for an API key, or for a name and a password, or to sign in at a provider, and for a tenant when there are several.
 * Who has signed in at a provider before is not asked again as long as the session lasts.
 */
export function SignIn({ session }: { session: Session }) {
  const [key, setKey] = useState('');
  const [me, setMe] = useState<Me | null>(null);
  const [tenant, setTenant] = useState('');
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(session.why);
  const [ways, setWays] = useState<readonly Provider[]>([]);
  const [token, setToken] = useState<AccessToken | null>(null);
  const [passwords, setPasswords] = useState(false);
  const [byPassword, setByPassword] = useState(false);
  const [name, setName] = useState('');
  const [password, setPassword] = useState('');

  /** Goes on with what a provider said, or asks for the tenant first. */
  const enter = async (granted: AccessToken): Promise<void> => {
    const owner = await whoIs({ key: granted.access_token, tenant: '' });
    if (!owner.verbs.includes('read')) throw new Error(`${owner.name} may not read data.`);
    const several = owner.tenants.length > 1;
    const chosen = owner.tenants.includes(session.chosenTenant) ? session.chosenTenant : '';
    if (several && chosen === '') {
      setToken(granted);
      setMe(owner);
      setTenant(owner.tenants[0] ?? '');
    } else {
      session.signInFor(granted, several ? chosen : '');
    }
  };

  const resume = async (): Promise<void> => {
    const found = await waysIn();
    setWays(found.providers);
    setPasswords(found.passwords);
    const granted = found.providers.length === 0 || session.left ? null : await renewByCookie();
    if (granted !== null) await enter(granted);
  };
  useEffect(() => {
    setBusy(true);
    resume()
      .catch((error: unknown) => setProblem(error instanceof Error ? error.message : String(error)))
      .finally(() => setBusy(false));
  }, []);

  const submit = async (): Promise<void> => {
    if (token !== null) {
      session.signInFor(token, tenant);
      return;
    }
    if (byPassword) {
      setBusy(true);
      setProblem('');
      try {
        await enter(await signInByPassword(name.trim(), password));
      } catch (error) {
        setProblem(error instanceof Error ? error.message : String(error));
      } finally {
        setPassword('');
        setBusy(false);
      }
      return;
    }
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
        {token === null && ways.length > 0 && (
          <div class="sign-in-ways">
            {ways.map((way) => (
              <a key={way.name} class="button" href={loginUrl(way)}>
                Sign in with {TITLES[way.name] ?? way.name}
              </a>
            ))}
          </div>
        )}
        {token === null && byPassword && (
          <>
            <p>The password is sent once and kept nowhere. You sign in again after leaving the page.</p>
            <label for="sign-in-name">Name</label>
            <input
              id="sign-in-name"
              class="sign-in-field"
              type="text"
              autocomplete="username"
              autocapitalize="none"
              spellcheck={false}
              required
              autofocus
              value={name}
              onInput={(event) => setName(event.currentTarget.value)}
            />
            <label for="sign-in-password">Password</label>
            <input
              id="sign-in-password"
              class="sign-in-field"
              type="password"
              autocomplete="current-password"
              required
              value={password}
              aria-invalid={problem !== ''}
              aria-describedby="sign-in-problem"
              onInput={(event) => setPassword(event.currentTarget.value)}
            />
          </>
        )}
        {token === null && !byPassword && (
          <>
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
          </>
        )}
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
        {token === null && passwords && (
          <button
            type="button"
            class="button"
            onClick={() => {
              setByPassword(!byPassword);
              setProblem('');
            }}
          >
            {byPassword ? 'Use an API key' : 'Use a name and password'}
          </button>
        )}
      </form>
    </main>
  );
}

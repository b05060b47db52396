import { Icon } from './icons';

interface HeaderProps {
  /** The metric browser; null where there is none. */
  readonly browser: { readonly open: boolean; readonly toggle: () => void } | null;
  readonly dark: boolean;
  readonly onToggleTheme: () => void;
  /** Null while nobody is signed in. */
  readonly onSignOut: (() => void) | null;
  /** Null for who did not sign in by a password. */
  readonly onPassword?: (() => void) | null;
}

export function Header({ browser, dark, onToggleTheme, onSignOut, onPassword = null }: HeaderProps) {
  return (
    <header class="header">
      {browser !== null && (
        <button
          type="button"
          class="button quiet"
          aria-expanded={browser.open}
          aria-controls="metric-browser"
          onClick={browser.toggle}
          title={browser.open ? 'Hide the metric browser' : 'Show the metric browser'}
        >
          <Icon name="panel" />
          <span class="wide-only">Metrics</span>
          <span class="sr-only narrow-only">Metrics</span>
        </button>
      )}
      <h1 class="brand">
        <svg class="brand-mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
          <rect width="32" height="32" rx="7" />
          <path d="M5 19c3.500 0 3.500-8 7-8s3.500 8 7 8 3.500-8 8-8" />
        </svg>
        Millstream
      </h1>
      <nav class="header-links" aria-label="Site">
        {browser === null ? (
          <a class="button quiet" href="#">
            Queries
          </a>
        ) : (
          <a class="button quiet" href="#events">
            Events
          </a>
        )}
        <a class="button quiet wide-only" href="docs">
          API
        </a>
        {onPassword !== null && (
          <button type="button" class="button quiet" onClick={onPassword}>
            Password
          </button>
        )}
        {onSignOut !== null && (
          <button type="button" class="button quiet" onClick={onSignOut}>
            Sign out
          </button>
        )}
        <button
          type="button"
          class="button quiet icon-only"
          onClick={onToggleTheme}
          aria-label={dark ? 'Switch to light colours' : 'Switch to dark colours'}
          title={dark ? 'Light' : 'Dark'}
        >
          <Icon name={dark ? 'sun' : 'moon'} />
        </button>
      </nav>
    </header>
  );
}

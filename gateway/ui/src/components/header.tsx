import { Icon } from './icons';

interface HeaderProps {
  readonly browserOpen: boolean;
  readonly onToggleBrowser: () => void;
  readonly dark: boolean;
  readonly onToggleTheme: () => void;
  /** Null while nobody is signed in. */
  readonly onSignOut: (() => void) | null;
}

export function Header({ browserOpen, onToggleBrowser, dark, onToggleTheme, onSignOut }: HeaderProps) {
  return (
    <header class="header">
      <button
        type="button"
        class="button quiet"
        aria-expanded={browserOpen}
        aria-controls="metric-browser"
        onClick={onToggleBrowser}
        title={browserOpen ? 'Hide the metric browser' : 'Show the metric browser'}
      >
        <Icon name="panel" />
        <span class="wide-only">Metrics</span>
        <span class="sr-only narrow-only">Metrics</span>
      </button>
      <h1 class="brand">
        <svg class="brand-mark" viewBox="0 0 32 32" width="26" height="26" aria-hidden="true">
          <rect width="32" height="32" rx="7" />
          <path d="M5 19c3.500 0 3.500-8 7-8s3.500 8 7 8 3.500-8 8-8" />
        </svg>
        Millstream
      </h1>
      <nav class="header-links" aria-label="Site">
        <a class="button quiet" href="docs">
          API
        </a>
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

import { EventsPage } from './components/events_page';
import { Header } from './components/header';
import { useSession } from './use_session';
import { useTheme } from './theme';

export function Events() {
  const theme = useTheme();
  const session = useSession();
  return (
    <div class="page">
      <Header
        browser={null}
        dark={theme.dark}
        onToggleTheme={theme.toggle}
        onSignOut={session.signedIn ? () => session.signOut() : null}
      />
      <EventsPage />
    </div>
  );
}

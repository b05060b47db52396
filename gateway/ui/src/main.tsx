import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/controls.css';
import './styles/layout.css';
import './styles/browser.css';
import './styles/results.css';
import './styles/events.css';
import './styles/sign_in.css';
import { App } from './app';
import { Events } from './events';
import { SignIn } from './components/sign_in';
import { useHash } from './use_hash';
import { useSession } from './use_session';

/** The page, or what stands before it. Signing in makes the page anew, so nothing is left of an earlier caller. */
function Door() {
  const session = useSession();
  const hash = useHash();
  if (session.needed) return <SignIn session={session} />;
  return hash === '#events' ? <Events /> : <App />;
}

const host = document.getElementById('app');
if (host !== null) render(<Door />, host);

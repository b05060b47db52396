import { render } from 'preact';
import 'uplot/dist/uPlot.min.css';
import './styles/tokens.css';
import './styles/controls.css';
import './styles/layout.css';
import './styles/browser.css';
import './styles/results.css';
import './styles/sign_in.css';
import { App } from './app';
import { SignIn } from './components/sign_in';
import { useSession } from './use_session';

/** The page, or what stands before it. Signing in makes the page anew, so nothing is left of an earlier caller. */
function Door() {
  const session = useSession();
  return session.needed ? <SignIn session={session} /> : <App />;
}

const host = document.getElementById('app');
if (host !== null) render(<Door />, host);

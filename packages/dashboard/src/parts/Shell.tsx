import { useQuery } from "@tanstack/react-query";
import { Link, Outlet, useLocation } from "@tanstack/react-router";
import { CircleHelp } from "lucide-react";
import { useCallback, useEffect, useRef } from "react";
import type { Session } from "../api";
import { JoinPage } from "../pages/JoinPage";
import { SignInPage } from "../pages/SignInPage";
import { classes } from "../classes";
import { usePreferences } from "../preferences";
import { mayGiveAccess, queries } from "../queries";
import { AccountMenu } from "./AccountMenu";
import controls from "./controls.module.css";
import { HelpDialog } from "./HelpDialog";
import { Mark } from "./Mark";
import { Search } from "./Search";
import { Silence, useSilence } from "./Silence";
import styles from "./Shell.module.css";
import { ThemeButton } from "./ThemeButton";
import { Failure } from "./Tile";

/** The frame of every page; behind it the pages of a signed-in reader, before it the sign-in form. */
export const Shell = () => {
  const session = useQuery(queries.session());
  const { pathname } = useLocation();
  // A link is for whoever holds it, also where somebody else is signed in.
  if (pathname === "/join") return <JoinPage />;
  if (session.data) return <Frame session={session.data} />;
  if (session.data === null) return <SignInPage />;
  if (session.error) {
    return (
      <main className={styles.alone}>
        <h1 className="visually-hidden">Twintrack</h1>
        <Failure
          error={session.error}
          retry={
            <button type="button" className={controls.button} onClick={() => void session.refetch()}>
              Try again
            </button>
          }
        />
      </main>
    );
  }
  return <p className="visually-hidden">Loading Twintrack</p>;
};

/** Whether a key press belongs to a field or to the browser rather than to us. */
const isTaken = (event: KeyboardEvent): boolean => {
  const target = event.target;
  const typing = target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
  return typing || event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented;
};

const Frame = ({ session }: { session: Session }) => {
  const { shortcuts } = usePreferences();
  const search = useRef<HTMLInputElement>(null);
  const help = useRef<HTMLDialogElement>(null);
  const main = useRef<HTMLElement>(null);
  const { pathname } = useLocation();
  const arrivedAt = useRef(pathname);
  const silentSince = useSilence();

  useEffect(() => {
    // Whoever listens to the page is taken to the new content; the first page starts where the browser starts.
    if (arrivedAt.current === pathname) return;
    arrivedAt.current = pathname;
    main.current?.focus({ preventScroll: true });
  }, [pathname]);

  const openHelp = useCallback(() => {
    if (help.current?.open === false) help.current.showModal();
  }, []);

  useEffect(() => {
    if (!shortcuts) return;
    const onKey = (event: KeyboardEvent) => {
      if (isTaken(event) || help.current?.open) return;
      if (event.key === "/") {
        event.preventDefault();
        search.current?.focus();
        search.current?.select();
      } else if (event.key === "?") {
        event.preventDefault();
        openHelp();
      }
    };
    window.addEventListener("keydown", onKey);
    return () => window.removeEventListener("keydown", onKey);
  }, [shortcuts, openHelp]);

  return (
    <>
      <a className={styles.skip} href="#main">
        Skip to content
      </a>
      <header className={styles.header}>
        <div className={styles.bar}>
          <Link to="/" className={styles.brand}>
            <Mark />
            <span>Twintrack</span>
          </Link>
          <nav aria-label="Pages" className={styles.nav}>
            <Link to="/" activeOptions={{ exact: true, includeSearch: false }} className={styles.page}>
              Live
            </Link>
            <Link to="/masking" className={styles.page}>
              Masking
            </Link>
            <Link to="/setup" activeOptions={{ includeSearch: false }} className={styles.page}>
              Setup
            </Link>
            {mayGiveAccess(session) && (
              <Link to="/access" className={styles.page}>
                Access
              </Link>
            )}
            {session.demo && (
              <a href="/demo/" className={classes(styles.page, styles.demo)}>
                Demo
              </a>
            )}
          </nav>
          <Search ref={search} />
          <div className={styles.tools}>
            <button type="button" className={controls.icon} onClick={openHelp} aria-label="Help and keys">
              <CircleHelp size={18} aria-hidden />
            </button>
            <ThemeButton />
            <AccountMenu session={session} />
          </div>
        </div>
      </header>
      {silentSince !== null && <Silence since={silentSince} />}
      <main id="main" ref={main} tabIndex={-1} className={classes(styles.main, silentSince !== null && styles.old)}>
        <Outlet />
      </main>
      <HelpDialog ref={help} />
    </>
  );
};

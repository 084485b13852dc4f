import { Link } from "@tanstack/react-router";
import controls from "../parts/controls.module.css";
import { useTitle } from "../title";
import styles from "./Page.module.css";

export const MissingPage = () => {
  useTitle("No such page");
  return (
    <div className={styles.missing}>
      <h1>There is no page at this address</h1>
      <p>To look for an event, paste its id into the search above.</p>
      <Link to="/" className={controls.button}>
        Back to live
      </Link>
    </div>
  );
};

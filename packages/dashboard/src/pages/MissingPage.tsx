import { Link } from "@tanstack/react-router";
import { useTitle } from "../title";
import controls from "../parts/controls.module.css";
import { Empty } from "../parts/Tile";

export const MissingPage = () => {
  useTitle("No such page");
  return (
    <>
      <h1 className="visually-hidden">No such page</h1>
      <Empty title="There is no page at this address.">
        <p>To look for an event, paste its id into the search above.</p>
        <Link to="/" className={controls.button}>
          Back to live
        </Link>
      </Empty>
    </>
  );
};

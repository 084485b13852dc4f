import { Moon, Sun } from "lucide-react";
import { setPreferences, useDark } from "../preferences";
import controls from "./controls.module.css";

/** Turns the page dark or light from now on. Back to the device's own choice: the help dialog. */
export const ThemeButton = () => {
  const dark = useDark();
  return (
    <button
      type="button"
      className={controls.icon}
      onClick={() => setPreferences({ theme: dark ? "light" : "dark" })}
      aria-label={dark ? "Use the light theme" : "Use the dark theme"}
    >
      {dark ? <Sun size={18} aria-hidden /> : <Moon size={18} aria-hidden />}
    </button>
  );
};

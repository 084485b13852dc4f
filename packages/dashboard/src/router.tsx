import { createRootRoute, createRoute, createRouter } from "@tanstack/react-router";
import { AccessPage } from "./pages/AccessPage";
import { EventPage } from "./pages/EventPage";
import { LivePage } from "./pages/LivePage";
import { MaskingPage } from "./pages/MaskingPage";
import { MissingPage } from "./pages/MissingPage";
import { SetupPage } from "./pages/SetupPage";
import { Shell } from "./parts/Shell";
import { type LiveSearch, readLiveSearch, readSetupSearch, type SetupSearch } from "./search";

const root = createRootRoute({ component: Shell, notFoundComponent: MissingPage });

const live = createRoute({
  getParentRoute: () => root,
  path: "/",
  validateSearch: (search: Record<string, unknown>): LiveSearch => readLiveSearch(search),
  component: LivePage,
});

const event = createRoute({ getParentRoute: () => root, path: "/events/$eventId", component: EventPage });

const setup = createRoute({
  getParentRoute: () => root,
  path: "/setup",
  validateSearch: (search: Record<string, unknown>): SetupSearch => readSetupSearch(search),
  component: SetupPage,
});

const masking = createRoute({ getParentRoute: () => root, path: "/masking", component: MaskingPage });
const access = createRoute({ getParentRoute: () => root, path: "/access", component: AccessPage });

export const router = createRouter({
  routeTree: root.addChildren([live, event, setup, masking, access]),
  scrollRestoration: true,
  defaultPreload: false,
});

declare module "@tanstack/react-router" {
  interface Register {
    router: typeof router;
  }
}

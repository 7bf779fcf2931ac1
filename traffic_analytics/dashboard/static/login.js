// Show the dashboard if the visitor is logged in: after a link of another site the browser withholds the cookie once.

const response = await fetch("session.json");
const { isLoggedIn } = await response.json();
if (isLoggedIn) {
  location.replace(location.href);
}

export {};

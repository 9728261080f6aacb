// Made from contract/app_socket.py by `python -m tests.documents`.

export const SUBPROTOCOL = "sarvis.v2";

// Why the bridge closes a socket.
export const CLOSE = Object.freeze({
  GOING_AWAY: 1001,
  DRAIN: 4000,
  SLOW_CONSUMER: 4001,
  RATE: 4008,
  HEARTBEAT_TIMEOUT: 4500,
  LOGGED_OUT: 4501,
  REPLACED: 4502,
  UNAUTHORISED: 4503,
  BAD_MESSAGE: 4504,
  TOO_MANY: 4505,
});

// 4500 to 4999: an app that came back by itself would be sent away again.
export function comesBack(code) {
  return code < 4500 || code > 4999;
}

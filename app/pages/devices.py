"""What a session was opened with, in words: "Firefox on Windows". The console says the same."""

import re

# The first that matches counts: Edge names Chrome too, Chrome names Safari, Android names Linux.
PROGRAMS = {
    r"\bEdgA?/|\bEdgiOS/": "Edge",
    r"\bOPR/|\bOpera\b": "Opera",
    r"\bSamsungBrowser/": "Samsung Internet",
    r"\bFirefox/|\bFxiOS/": "Firefox",
    r"\bChrom(e|ium)/|\bCriOS/|\bHeadlessChrome/": "Chrome",
    r"\bSafari/": "Safari",
    r"^curl/": "curl",
    r"^python-httpx|^python-httpx2|^httpx": "Python (httpx)",
    r"^python-requests/": "Python (requests)",
    r"^Python": "Python",
    r"^Go-http-client/": "Go",
    r"^okhttp/": "okhttp",
    r"^Java|^Apache-HttpClient": "Java",
    r"^node|^undici|^axios/": "Node.js",
    r"^PostmanRuntime/": "Postman",
}
SYSTEMS = {
    r"\biPhone\b": "iPhone",
    r"\biPad\b": "iPad",
    r"\bAndroid\b": "Android",
    r"\bCrOS\b": "ChromeOS",
    r"\bWindows\b": "Windows",
    r"\bMac OS X\b|\bMacintosh\b": "macOS",
    r"\bLinux\b": "Linux",
}
LONGEST = 80
"""Characters that are shown of how a program calls itself."""


def device_of(user_agent: str | None) -> str:
    """Return the program and its system. One that is not known is shown as it calls itself."""
    if not user_agent:
        return "Unknown program"
    program, system = _name_in(PROGRAMS, user_agent), _name_in(SYSTEMS, user_agent)
    if program and system:
        return f"{program} on {system}"
    if program or system:
        return program or f"A program on {system}"
    return user_agent if len(user_agent) <= LONGEST else f"{user_agent[:LONGEST]}…"


def _name_in(known: dict[str, str], user_agent: str) -> str | None:
    return next((name for mark, name in known.items() if re.search(mark, user_agent)), None)

"""Rounds of the event loop: of many requests one begins in each, so that no round is long, whatever comes.

The event loop answers everything that has come before it looks for what came meanwhile, and in each round it takes one
new connection: uvloop does (libuv's pull request 3696). With thousands of callers a round took seconds, and whoever was
new waited for as many rounds as others had come before: some callers for more than 30 s, and so did those who ask
/livez and /readyz, by which a load balancer takes a busy service for a dead one.

What waits here does so in the order in which it came.
"""

from __future__ import annotations

import asyncio
from collections import deque

# One request, or a few refusals: about a millisecond.
IN_A_ROUND = 4
REFUSAL, REQUEST = 1, 4
# So few at once may all begin in one round: it is not long, and each of them would wait for a round otherwise.
FEW_AT_ONCE = 16
# Of each worker. More are refused, and so nobody waits for longer than some seconds.
MOST_AT_ONCE = 256


class FullError(RuntimeError):
    """So many requests are being answered that this one was not begun."""


class Rounds:
    """Gives out places in the rounds of one event loop.

    All methods run in it.
    """

    def __init__(self) -> None:
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()
        self._goes_on = False
        self._at_once = 0
        self._left = self._room

    async def place(self, cost: int = REFUSAL) -> None:
        """Returns in a round that has room; at once where nobody waits.

        Args:
            cost: of what is done then, in refusals.
        """
        if self._waiting or self._left <= 0:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((place, cost))
            self._go_on()
            await place
        else:
            self._left -= cost
            self._go_on()

    async def begin(self) -> None:
        """Returns when a request may be answered; whoever called this calls `end` then, however that goes.

        Raises:
            FullError: in a round that has room for saying so.
        """
        if self._at_once >= MOST_AT_ONCE:
            await self.place()
            raise FullError("more requests came at once than can be answered in time; send this one again later")
        self._at_once += 1
        try:
            await self.place(REQUEST)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Gives the place to others."""
        self._at_once -= 1

    @property
    def _room(self) -> int:
        """Of a round, in refusals."""
        return IN_A_ROUND if self._at_once > FEW_AT_ONCE else FEW_AT_ONCE * REQUEST

    def _go_on(self) -> None:
        if not self._goes_on:
            self._goes_on = True
            # Runs in the next round.
            asyncio.get_running_loop().call_soon(self._next_round)

    def _next_round(self) -> None:
        self._goes_on = False
        self._left = room = self._room
        while self._waiting and self._left > 0:
            place, cost = self._waiting.popleft()
            # Whoever has gone needs none.
            if not place.done():
                place.set_result(None)
                self._left -= cost
        if self._left < room:
            self._go_on()

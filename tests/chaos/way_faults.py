"""What befalls the second service: the way to the replicas, its stream, its process, its clock."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence

from tests.chaos.second_service import PAUSE
from tests.chaos.serving_process import ServingProcess
from tests.chaos.stage import Stage
from tests.chaos.way import Lane
from tests.support.processes import PATIENCE

REMEMBERED = 1.0
"""Seconds for which an answer of introspection counts while the stream is not fresh."""


async def way_delayed(stage: Stage) -> None:
    """What streams send, other requests or both are later and later, and never silent for long."""
    lanes = _some_lanes(stage)
    for _ in range(stage.chance.randint(3, 15)):
        for lane in lanes:
            lane.delay += 0.15
        await asyncio.sleep(0.2)


async def way_buffered(stage: Stage) -> None:
    """A proxy collects what streams send, and passes it on a few times."""
    for _ in range(stage.chance.randint(1, 3)):
        stage.way.stream.hold()
        await asyncio.sleep(stage.chance.uniform(0.2, 1.5))
        stage.way.stream.release()
        await asyncio.sleep(stage.chance.uniform(0, 0.3))


async def way_stalled(stage: Stage) -> None:
    """No byte of streams, other requests or both comes through for a while, and none is lost."""
    for lane in _some_lanes(stage):
        lane.hold()
    await asyncio.sleep(stage.chance.uniform(0.2, 2.5))


async def way_lost(stage: Stage) -> None:
    """What is connected leads nowhere, and neither side is told; new connections do."""
    for lane in _some_lanes(stage):
        lane.lose()
    # Where a stream was lost, the second service must notice by itself.
    async with asyncio.timeout(PATIENCE):
        while not stage.way.streams_from():
            await asyncio.sleep(PAUSE)
    await asyncio.sleep(stage.chance.uniform(0, 1))


async def way_cut(stage: Stage) -> None:
    """Connections are reset, a few times."""
    lanes = _some_lanes(stage)
    for _ in range(stage.chance.randint(1, 4)):
        for lane in lanes:
            lane.cut()
        await asyncio.sleep(stage.chance.uniform(0, 0.5))


async def way_moved(stage: Stage) -> None:
    """The way leads to one replica alone, and then to the other: each stream goes on there."""
    urls = [replica.url for replica in stage.replicas]
    for url in stage.chance.sample(urls, len(urls)):
        stage.way.lead_to(url)
        stage.way.stream.cut()
        await asyncio.sleep(stage.chance.uniform(0, 1))


async def stream_partitioned(stage: Stage) -> None:
    """Only streams do not come through. The second service then asks, and goes on."""
    _partition(stage, [stage.way.stream])
    await stage.second.until_fresh(fresh=False)
    for _ in range(10):
        await stage.second.until_answers(200)
        await asyncio.sleep(PAUSE)


async def introspection_partitioned(stage: Stage) -> None:
    """Only streams come through. A token that no event touched is let in all the same."""
    async with asyncio.timeout(PATIENCE):
        answer = 0
        # Where the stream was lost for another reason, it is tried again.
        while answer != 200:
            stage.way.heal()
            await stage.second.until_answers(200)
            _partition(stage, [stage.way.other])
            ends = time.monotonic() + REMEMBERED + stage.chance.uniform(0.2, 1)
            while time.monotonic() < ends:
                answer = await stage.second.ask()
                await asyncio.sleep(PAUSE)


async def both_partitioned(stage: Stage) -> None:
    """Nothing comes through, until the second service lets in no token for want of an answer."""
    _partition(stage, [stage.way.stream, stage.way.other])
    await stage.second.until_answers(503)
    await asyncio.sleep(stage.chance.uniform(0, 1))


async def stream_s_replica_stopped(stage: Stage) -> None:
    """SIGSTOP of the replica that the second service's stream comes from; it goes on later."""
    await _stream_s_replica(stage).stand_still(stage.chance.uniform(0.2, 2.5))


async def stream_s_replica_killed(stage: Stage) -> None:
    """`kill -9` of the replica that the second service's stream comes from, and a start."""
    replica = _stream_s_replica(stage)
    await replica.kill()
    await replica.start()


async def replicas_replaced(stage: Stage) -> None:
    """All replicas are replaced while no stream comes through: none knows what was missed."""
    _partition(stage, [stage.way.stream])
    for replica in stage.replicas:
        await replica.kill()
        await replica.start()


async def second_service_stopped(stage: Stage) -> None:
    """SIGSTOP of the second service; it goes on later, with what it knew."""
    await stage.second.stand_still(stage.chance.uniform(0.2, 2.5))


async def second_service_killed(stage: Stage) -> None:
    """`kill -9` of the second service, and a start."""
    await stage.second.kill()
    await stage.second.start()


async def second_service_clock_moved(stage: Stage) -> None:
    """The second service starts again under a clock that is minutes or days off."""
    await stage.second.kill()
    off = stage.chance.choice((-1, 1)) * stage.chance.uniform(60, 1e6)
    await stage.second.start(clock_off_by=off)


WAY_FAULTS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    fault.__name__.replace("_s_", "'s ").replace("_", " "): fault
    for fault in (
        way_delayed,
        way_buffered,
        way_stalled,
        way_lost,
        way_cut,
        way_moved,
        stream_partitioned,
        introspection_partitioned,
        both_partitioned,
        stream_s_replica_stopped,
        stream_s_replica_killed,
        replicas_replaced,
        second_service_stopped,
        second_service_killed,
        second_service_clock_moved,
    )
}


def _some_lanes(stage: Stage) -> Sequence[Lane]:
    stream, other = stage.way.stream, stage.way.other
    return stage.chance.choice(([stream], [other], [stream, other]))


def _partition(stage: Stage, lanes: Sequence[Lane]) -> None:
    """Let nothing through: by silence, or by resets."""
    silent = stage.chance.choice((True, False))
    for lane in lanes:
        if silent:
            lane.hold()
        else:
            lane.refuses = True
            lane.cut()


def _stream_s_replica(stage: Stage) -> ServingProcess:
    sources = stage.way.streams_from()
    found = [replica for replica in stage.replicas if replica.url in sources]
    return stage.chance.choice(found or stage.replicas)

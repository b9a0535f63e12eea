"""What is offered when, and how much of it at once, between real sites."""

from datetime import timedelta

from tests.network.test_flow import change


async def offered(sender):
    """Names in the order in which they were offered, and the batch of each."""
    found = sorted(await sender.outgoing(), key=lambda transfer: transfer.id)
    return {transfer.name: transfer.batch_id for transfer in found}


async def test_a_peer_has_no_more_in_its_staging_than_its_budget(pair):
    sender, receiver = pair
    await change(sender, staged_budget=10)
    names = [f"{number}" for number in range(4)]
    await sender.upload(dict.fromkeys(names, b"6bytes"))

    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, names)
    assert len(set((await offered(sender)).values())) == 4


async def test_what_is_larger_than_the_whole_budget_goes_alone(pair):
    sender, receiver = pair
    await change(sender, staged_budget=10)
    await sender.upload({"large": b"x" * 100, "small": b"s"})

    await sender.replicates_to(receiver)

    await sender.knows_copies_at(receiver, ["large", "small"])
    assert len(set((await offered(sender)).values())) == 2


async def test_a_backlog_that_fills_no_batch_waits_for_more(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver, batch_files=3, batch_age=timedelta(hours=1))
    await sender.upload({"one": b"1", "two": b"2"})
    early = await offered(sender)

    await sender.upload({"three": b"3"})

    await sender.knows_copies_at(receiver, ["one", "two", "three"])
    assert early == {}
    assert len(set((await offered(sender)).values())) == 1


async def test_a_backlog_that_fills_no_batch_goes_when_it_has_waited_long_enough(pair):
    sender, receiver = pair
    await sender.replicates_to(receiver, batch_files=3, batch_age=timedelta(milliseconds=300))

    await sender.upload({"one": b"1", "two": b"2"})

    await sender.knows_copies_at(receiver, ["one", "two"])


async def test_the_rule_with_the_higher_priority_goes_first(pair):
    sender, receiver = pair
    await change(sender, flow="draining")
    low, high = ["low/1", "low/2"], [f"high/{number}" for number in range(4)]
    await sender.replicates_to(receiver, name="low", match=("low/*",), batch_files=1)
    await sender.replicates_to(receiver, name="high", match=("high/*",), batch_files=1, priority=1)
    await sender.upload(dict.fromkeys(low, b"x"))
    await sender.upload(dict.fromkeys(high, b"x"))

    await change(sender, flow="open")

    await sender.knows_copies_at(receiver, low + high)
    # Each fourth is for whoever has waited longest.
    order = [name.partition("/")[0] for name in await offered(sender)]
    assert order == ["high", "high", "high", "low", "high", "low"]

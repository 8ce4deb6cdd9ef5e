"""Common mistakes get an answer, not a stack."""

from __future__ import annotations

import functools
import gc
import warnings

import pytest

from mtasklite import Pool, PoolClosedError, delayed_init, is_exception, processes, threads
from mtasklite.tests import workers


def add(first, second):
    """A worker of two arguments."""
    return first + second


def invert(item):
    """A worker that cannot do zero."""
    return 1 / item


def fail(item):
    """A worker that does nothing right."""
    raise KeyError(item)


@pytest.mark.parametrize("swapped", [(workers.square, [1, 2]), (workers.square, range(3)), (len, "abc")])
@pytest.mark.parametrize("pqdm", [processes.pqdm, threads.pqdm], ids=["processes", "threads"])
def test_swapped_arguments_are_named(pqdm, swapped):
    """The worker comes second; who puts it first is told so."""
    with pytest.raises(TypeError, match="`input_iterable` comes first and `worker_or_worker_arr` second"):
        pqdm(*swapped, 2)


def test_name_that_is_almost_right_gets_a_hint():
    """A slip of the finger in an argument's name is named."""
    with pytest.raises(TypeError, match=r"`tsk_timeout` is no argument of .*: did you mean `task_timeout`\?"):
        processes.pqdm([1], workers.square, 2, tsk_timeout=3)
    with pytest.raises(TypeError, match=r"`descr` is no argument of .*: did you mean `desc`\?"):
        processes.pqdm([1], workers.square, 2, descr="work")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("chunksize", "did you mean `chunk_size`?"),
        ("processes", "did you mean `n_jobs`?"),
        ("num_cpus", "`n_jobs` is the number of workers; what each needs of Ray is `resources={'num_cpus': ...}`"),
        ("num_gpus", "what each worker needs of Ray is in `resources`"),
        ("max_workers", "did you mean `n_jobs`?"),
        ("timeout", "did you mean `task_timeout`?"),
        ("maxtasksperchild", "did you mean `max_tasks_per_child`?"),
        ("n_job", "did you mean `n_jobs`?"),
        ("initializer", "a class decorated with `delayed_init` makes"),
    ],
)
def test_names_that_others_have_for_arguments_get_a_hint(name, hint):
    """Whoever comes from another package is told what it is called here, by `Pool` and by `pqdm`."""
    with pytest.raises(TypeError, match=rf"`{name}` is no argument of `Pool`: ") as of_pool:
        Pool(workers.square, **{name: 2})
    with pytest.raises(TypeError, match=rf"`{name}` is no argument of `pqdm`, of `Pool` or of `tqdm`: ") as of_pqdm:
        processes.pqdm([1], workers.square, **{name: 2})
    assert all(hint in str(error.value) for error in (of_pool, of_pqdm))


def test_name_that_nobody_has_gets_no_hint():
    """A guess that is none would mislead."""
    with pytest.raises(TypeError, match=r"`zzz` is no argument of `Pool`$"):
        Pool(workers.square, zzz=2)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("map", "`pool(items)`"),
        ("imap_unordered", "is_unordered=True"),
        ("starmap", "argument_type='args'"),
        ("submit", "`pool(items)`"),
        ("close", "`with Pool(...) as pool:`"),
    ],
)
def test_methods_that_others_have_get_a_hint(name, hint):
    """Whoever comes from another package is told what to write instead."""
    with pytest.raises(AttributeError, match=f"'Pool' object has no attribute '{name}': ") as caught:
        getattr(Pool(workers.square, 1), name)
    assert hint in str(caught.value)


def test_other_attribute_that_is_missing_is_an_attribute_error_like_any():
    """As `hasattr` and `copy` want it."""
    with pytest.raises(AttributeError, match=r"^'Pool' object has no attribute 'mapp'$"):
        getattr(Pool(workers.square, 1), "mapp")  # noqa: B009 - the type checker would know, too
    assert not hasattr(Pool, "map")


def test_decorated_class_that_is_subclassed_says_which_to_decorate():
    """Python alone would speak of metaclasses."""
    decorated = delayed_init(workers.Multiplier)
    with pytest.raises(TypeError, match=r"decorate the last class only, or derive from .*Multiplier\.__wrapped__"):

        class Derived(decorated):
            pass

    class DerivedFromPlain(decorated.__wrapped__):
        pass

    assert DerivedFromPlain(3)(2) == 6


def test_class_that_was_not_decorated_gets_a_warning_that_names_the_remedy():
    """It may be meant, so it is no error; and a class whose objects cannot be called is."""
    with pytest.warns(
        UserWarning, match=r"is the class Multiplier itself.*`delayed_init` and pass Multiplier\("
    ) as said:
        Pool(workers.Multiplier, 2)
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Pool(str, 2)
        Pool(type, 2)  # whose objects can be called too, but nobody means that


def test_too_many_workers_are_refused():
    """A number that no machine has is a mistake, and would take the memory of one."""
    with pytest.raises(ValueError, match=r"`n_jobs` must be at most 65536, or None .* but got: 1000000000"):
        Pool(workers.square, 10**9)


@pytest.mark.parametrize(
    ("argument_type", "item", "hint"),
    [
        ("args", (1,), r"called as `worker\(\*item\)`, as `argument_type='args'` says, with the item \(1,\)\)"),
        ("args", "abc", r"with the item 'abc', which is taken apart into its characters\)"),
        ("args", 3, r"with the item 3\)"),
        ("kwargs", {"first": 1}, r"called as `worker\(\*\*item\)`, as `argument_type='kwargs'` says"),
        ("single_arg", (1, 2), r"with the item \(1, 2\); `argument_type='args'` would call `worker\(\*item\)`"),
        ("single_arg", {"first": 1}, r"`argument_type='kwargs'` would call `worker\(\*\*item\)`"),
    ],
)
def test_item_that_does_not_fit_the_worker_is_shown_with_the_call(pool_kwargs, argument_type, item, hint):
    """The error says what was called with what."""
    with pytest.raises(TypeError, match=hint):
        list(Pool(add, argument_type=argument_type, **pool_kwargs)([item]))


def test_error_of_the_task_itself_is_left_as_it_is(pool_kwargs):
    """Whatever it says: only a call that failed is explained."""
    with pytest.raises(TypeError) as caught:
        list(Pool(add, argument_type="args", **pool_kwargs)([(1, "a")]))
    assert str(caught.value) == "unsupported operand type(s) for +: 'int' and 'str'"


@pytest.mark.parametrize("lazy", [Pool(workers.square, 2), lambda items: processes.pqdm(items, workers.square, 2)])
def test_result_that_is_dropped_unread_gives_a_warning(lazy):
    """Who forgets to read a lazy result is told that nothing was done."""
    with pytest.warns(ResourceWarning, match="nothing was done: they are lazy") as said:
        lazy([1, 2, 3])
    assert said[0].filename == __file__


@pytest.mark.parametrize("use", [list, next, lambda results: results.close()], ids=["list", "next", "close"])
def test_result_that_was_used_or_closed_gives_none(use):
    """A warning would be wrong there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        use(Pool(workers.square, 1)([1, 2, 3]))
        gc.collect()


def test_results_say_what_they_are():
    """In a notebook a lazy result is shown, and nothing else happens."""
    pool = Pool(workers.square, 2)
    results = pool([1, 2])
    assert repr(pool).startswith("<Pool of 2 on processes: <function square")
    assert repr(results) == f"<lazy results of {pool!r}: nothing done yet: iterate over them, or make a list of them>"
    next(results)
    assert repr(results).endswith("under way>")
    list(results)
    assert repr(results).endswith("at their end, or closed>")
    progress = processes.pqdm([1], workers.square, 2)
    assert repr(progress) == f"<pqdm: {progress.pool_obj!r}>"
    assert repr(Pool([abs, workers.square])).startswith("<Pool of 2 on processes: [<built-in function abs>, <function")


def test_failure_of_all_items_for_one_reason_is_told(parallel_kwargs):
    """Where exceptions are handed out, a task that never works would else pass unseen."""
    with pytest.warns(
        RuntimeWarning, match="(?s)all 5 items failed with KeyError; the first .*in fail.*KeyError: "
    ) as said:
        results = list(Pool(fail, exception_behavior="ignore", **parallel_kwargs)(range(5)))
    assert all(map(is_exception, results))
    assert said[0].filename == __file__


@pytest.mark.parametrize("items", [[1, 0, 0], [0], ["a", 0]], ids=["one_is_right", "one_item", "two_reasons"])
def test_failures_that_differ_are_not_told(items):
    """Then the results tell for themselves."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(Pool(invert, 2, exception_behavior="ignore", use_threads=True)(items))


def test_workers_that_cannot_all_be_started_are_an_error_that_names_the_remedy():
    """A machine has only so many files and processes for a user."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, limits[1]))
    try:
        with pytest.raises(OSError, match=r"Too many open files: only \d+ of 60 workers .*`n_jobs`.*`ulimit -n`"):
            next(Pool(workers.square, 60)([1]))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


class Shy:
    """Its text is nobody's to ask for."""

    def __repr__(self):
        raise SystemExit("asked for its text")


def add_to_nothing(item):
    return None + 1


def test_items_text_is_asked_for_only_where_it_is_shown(pool_kwargs):
    """It may take long, or raise."""
    (error,) = Pool(add_to_nothing, exception_behavior="ignore", **pool_kwargs)([Shy()])
    assert type(error) is TypeError


def inject(function):
    """A decorator that passes an argument of its own."""

    @functools.wraps(function)
    def injected(self, *args):
        function(self, "injected", *args)

    return injected


def test_constructor_that_is_passed_more_by_its_decorator_is_taken():
    """What it takes is what the decorator takes."""

    @delayed_init
    class Connected:
        @inject
        def __init__(self, connection, number):
            self.texts = connection, number

        def __call__(self, item):
            return self.texts

    assert Connected(3)(None) == ("injected", 3)


def test_result_that_could_not_be_read_gives_no_second_warning():
    """The error that was raised says it all."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Pool(workers.square, 2, use_threads=True) as pool:
            results = pool([1])
        with pytest.raises(PoolClosedError):
            next(results)
        del results
        gc.collect()


def test_failure_of_all_items_is_told_at_the_users_line_through_pqdm():
    """Not at one of the bar's."""
    with pytest.warns(RuntimeWarning, match="all 2 items failed") as said:
        threads.pqdm([1, 2], fail, 2, lazy=False, disable=True)
    assert said[0].filename == __file__


def test_module_that_is_taken_for_the_function_says_where_that_is():
    """`from mtasklite import pqdm` is a natural guess."""
    from mtasklite import pqdm

    with pytest.raises(TypeError, match=r"is a module: write `from mtasklite.processes import pqdm`"):
        pqdm([1, 2], workers.square)

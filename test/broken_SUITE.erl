%% Releases that are broken: the error reaches the user, and nobody is left
%% hanging on a dead port.
-module(broken_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([
    what_is_missing_is_named/1,
    a_release_that_is_not_there_is_named/1,
    versions_that_are_none_are_shown/1,
    a_copy_without_a_release_tells_what_to_do/1,
    a_virtual_machine_that_ends_at_once_is_told_of/1,
    a_program_that_cannot_be_executed_is_told_of/1,
    a_late_end_frees_the_port_and_whoever_waits/1,
    a_late_end_is_told_on_the_terminal/1,
    a_late_end_is_told_in_the_system_log/1,
    without_a_system_log_nothing_waits/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

init_per_suite(Config) ->
    Copy = release:copy(?config(priv_dir, Config)),
    {0, Real} = testkit:run(["realpath", Copy]),
    [{copy, string:trim(binary_to_list(Real))} | Config].

end_per_suite(_Config) ->
    ok.

what_is_missing_is_named(Config) ->
    [
        with_broken(Config, Pattern, fun(File) -> ok = file:delete(File) end, fun(File) ->
            Expected = io_lib:format(
                "epmd: the release in ~s is not complete: ~s: No such file or directory "
                "(os error 2)\n",
                [?config(copy, Config), File]
            ),
            fails(Config, iolist_to_binary(Expected))
        end)
     || Pattern <- [
            "lib/portmapper-*/priv/portmapper_nif.so",
            "releases/*/vm.args",
            "releases/*/sys.config",
            "releases/*/start.boot",
            "erts-*/bin/beam.smp",
            "erts-*/bin/erlexec",
            "erts-*/bin/erl_child_setup"
        ]
    ].

a_release_that_is_not_there_is_named(Config) ->
    Variables = [{"PORTMAPPER_ROOT", "/no/such/release"}],
    [
        begin
            {1, Message} = release:run(?config(port, Config), Arguments, Variables),
            ?assertMatch(
                <<"epmd: the release in /no/such/release is not complete: ", _/binary>>, Message
            )
        end
     || Arguments <- [["-daemon"], [], ["-replace"]]
    ],
    is_clean(Config),
    %% The verbs need no release.
    ?assertEqual({1, <<>>}, release:run(?config(port, Config), ["-started"], Variables)).

versions_that_are_none_are_shown(Config) ->
    Write = fun(File) -> ok = file:write_file(File, "nonsense") end,
    with_broken(Config, "releases/start_erl.data", Write, fun(File) ->
        Expected = "epmd: ~s is not as it should be: \"nonsense\", expected two versions\n",
        fails(Config, iolist_to_binary(io_lib:format(Expected, [File])))
    end).

a_copy_without_a_release_tells_what_to_do(Config) ->
    Copy = filename:join(?config(priv_dir, Config), "epmd"),
    {ok, _} = file:copy(release:epmd(), Copy),
    ok = file:change_mode(Copy, 8#755),
    {1, Message} = release:shell(?config(port, Config), [Copy, " -daemon"]),
    ?assertMatch({match, _}, re:run(Message, "^epmd: there is no release in .*PORTMAPPER_ROOT")),
    is_clean(Config).

a_virtual_machine_that_ends_at_once_is_told_of(Config) ->
    with_broken(Config, "erts-*/bin/beam.smp", fun(File) -> script(File, "exit 3") end, fun(_) ->
        fails(
            Config,
            <<"epmd: the Erlang virtual machine ended with status 3 before it served; without "
                "-daemon it tells why\n">>
        )
    end).

a_program_that_cannot_be_executed_is_told_of(Config) ->
    NoProgram = fun(File) ->
        ok = file:write_file(File, "#!/no/such/interpreter\n"),
        ok = file:change_mode(File, 8#755)
    end,
    with_broken(Config, "erts-*/bin/erlexec", NoProgram, fun(_) ->
        Expected =
            <<"epmd: cannot start the Erlang virtual machine: No such file or directory (os "
                "error 2)\n">>,
        fails(Config, Expected),
        ?assertEqual({1, Expected}, run(Config, []))
    end).

a_late_end_frees_the_port_and_whoever_waits(Config) ->
    with_garbage(Config, fun() ->
        File = filename:join(?config(priv_dir, Config), "stderr"),
        ?assertEqual({0, <<>>}, shell(Config, ["$EPMD -daemon 2>", File])),
        %% Whether it waits already or comes too late: it is not left hanging.
        {1, _} = release:run(?config(port, Config), ["-names"]),
        ok = release:await_end(?config(port, Config)),
        ?assertEqual({ok, <<"epmd: ", (late())/binary, "\n">>}, file:read_file(File)),
        %% In the foreground the virtual machine tells it itself.
        {1, Message} = run(Config, []),
        ?assertMatch({match, _}, re:run(Message, "do_boot"))
    end).

a_late_end_is_told_on_the_terminal(Config) ->
    with_garbage(Config, fun() ->
        Script = "script -qec '$EPMD -daemon; sleep 2' /dev/null",
        {0, Output} = shell(Config, Script),
        ?assertEqual(<<"epmd: ", (late())/binary, "\r\n">>, Output)
    end).

a_late_end_is_told_in_the_system_log(Config) ->
    system_log:available() orelse throw({skip, "no mount namespaces here (not root?)"}),
    Test = fun(Log) ->
        Script = system_log:script(Log, "$EPMD -daemon"),
        ?assertEqual({0, <<>>}, shell(Config, Script)),
        ?assertEqual({error, late()}, system_log:next(Log))
    end,
    with_garbage(Config, fun() -> system_log:with(Test) end).

without_a_system_log_nothing_waits(Config) ->
    system_log:available() orelse throw({skip, "no mount namespaces here (not root?)"}),
    Test = fun(Log) ->
        %% There is the name, and nobody behind it.
        ok = system_log:close_socket(Log),
        ?assertEqual({0, <<>>}, shell(Config, system_log:script(Log, "$EPMD -daemon"))),
        ok = release:await_end(?config(port, Config))
    end,
    with_garbage(Config, fun() -> system_log:with(Test) end).

late() ->
    <<"the Erlang virtual machine ended with status 1 before it served; without -daemon it tells "
        "why">>.

with_garbage(Config, Fun) ->
    Write = fun(File) -> ok = file:write_file(File, "garbage") end,
    with_broken(Config, "releases/*/start.boot", Write, fun(_) -> Fun() end).

%% Breaks a file of the release while the test runs.
with_broken(Config, Pattern, Break, Test) ->
    [File] = filelib:wildcard(filename:join(?config(copy, Config), Pattern)),
    Kept = File ++ ".kept",
    {0, _} = testkit:run(["cp", "-p", File, Kept]),
    try
        ok = Break(File),
        Test(File)
    after
        ok = file:rename(Kept, File)
    end.

script(File, Commands) ->
    ok = file:delete(File),
    ok = file:write_file(File, ["#!/bin/sh\n", Commands, "\n"]),
    file:change_mode(File, 8#755).

fails(Config, Expected) ->
    ?assertEqual({1, Expected}, run(Config, ["-daemon"])),
    is_clean(Config).

is_clean(Config) ->
    release:await_end(?config(port, Config)).

run(Config, Arguments) ->
    release:run(?config(port, Config), Arguments, root(Config)).

shell(Config, Script) ->
    release:shell(?config(port, Config), Script, root(Config)).

root(Config) ->
    [{"PORTMAPPER_ROOT", ?config(copy, Config)}].

%% `epmd' where the environment, the file system, the limits or the arguments
%% are not as they should be.
-module(environment_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0]).
-export([
    variables_of_other_virtual_machines_do_no_harm/1,
    an_empty_environment_suffices/1,
    a_wrong_variable_of_its_own_is_named/1,
    a_read_only_file_system_suffices/1,
    a_relative_root_is_found_from_everywhere/1,
    any_path_will_do/1,
    few_descriptors_suffice/1,
    too_little_memory_is_told_or_suffices/1,
    wrong_flags_get_the_usage_as_from_c_epmd/1,
    wrong_flags_of_its_own_get_the_usage/1,
    local_exposure_binds_loopback_addresses_alone/1,
    no_more_nodes_are_registered_than_an_option_says/1
]).

suite() ->
    [{timetrap, {seconds, 60}}, {ct_hooks, [release_hook]}].

all() ->
    release_hook:cases(?MODULE).

variables_of_other_virtual_machines_do_no_harm(Config) ->
    Port = ?config(port, Config),
    Nonsense = [
        {Name, "-no -such +thing /nowhere"}
     || Name <- [
            "ERL_FLAGS", "ERL_AFLAGS", "ERL_ZFLAGS", "ERL_LIBS", "ERL_INETRC", "ERL_OTP25_FLAGS",
            "EMU", "ROOTDIR", "BINDIR", "PROGNAME", "RELDIR", "RELEASE_ROOT", "RELEASE_NAME",
            "RELEASE_NODE", "RELEASE_VSN", "ESCRIPT_NAME", "ERL_COMPILER_OPTIONS", "ERL_CRASH_DUMP"
        ]
    ],
    Homeless = [{"HOME", false}, {"TERM", false}, {"LANG", "C"}, {"LC_ALL", "C"}, {"PATH", ""}],
    Sets = [Nonsense ++ Homeless, [{"HOME", ""}, {"PATH", false}], [{"HOME", "/nowhere/ö"}]],
    [
        begin
            ?assertEqual({0, <<>>}, release:run(Port, ["-daemon"], Set)),
            is_serving(Port),
            %% Nor do they to the verbs.
            ?assertMatch({0, <<"Killed\n">>}, release:run(Port, ["-kill"], Set)),
            ok = release:await_end(Port)
        end
     || Set <- Sets
    ],
    Epmd = release:start(Port, [release:epmd()], Nonsense ++ Homeless),
    _ = program:await(Epmd, "listens on"),
    is_serving(Port).

an_empty_environment_suffices(Config) ->
    Port = ?config(port, Config),
    Script = io_lib:format(
        "exec env -i EPMD_OF_TEST=~b $EPMD -address 127.0.0.1 -port ~b -daemon", [Port, Port]
    ),
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    is_serving(Port).

a_wrong_variable_of_its_own_is_named(Config) ->
    Port = ?config(port, Config),
    [
        begin
            {1, Output} = release:run(Port, Arguments, [{Name, Value}]),
            [Line, <<"usage", _/binary>>] = binary:split(string:lowercase(Output), <<"\n">>),
            ?assertMatch({match, _}, re:run(Line, string:lowercase(["^epmd: ", Name, " is \"", Value])))
        end
     || Arguments <- [["-daemon"], [], ["-names"]],
        {Name, Value} <- [
            {"ERL_EPMD_PORT", "abc"}, {"ERL_EPMD_PORT", "0"}, {"ERL_EPMD_PORT", "65536"},
            {"ERL_EPMD_ADDRESS", "localhost"}
        ]
    ],
    ok = release:await_end(Port).

a_read_only_file_system_suffices(Config) ->
    system_log:available() orelse throw({skip, "no mount namespaces here (not root?)"}),
    Port = ?config(port, Config),
    ReadOnly =
        "awk '\\''{ print $2 }'\\'' /proc/mounts | sort -ru | while read -r m; do "
        "mount -o remount,bind,ro $m 2>/dev/null || true; done; "
        "! touch /tmp/x$$ $HOME/x$$ 2>/dev/null; ",
    Script = ["unshare --mount sh -ec '", ReadOnly, "$EPMD -daemon'"],
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    is_serving(Port).

a_relative_root_is_found_from_everywhere(Config) ->
    Port = ?config(port, Config),
    Script = "cd $(dirname $EPMD)/..; PORTMAPPER_ROOT=. $EPMD -daemon",
    ?assertEqual({0, <<>>}, release:shell(Port, Script)),
    is_serving(Port),
    ?assertEqual({0, <<"Killed\n">>}, release:run(Port, ["-kill"])),
    ok = release:await_end(Port),
    Link = filename:join(?config(priv_dir, Config), "link"),
    ok = file:make_symlink(release:epmd(), Link),
    ?assertEqual({0, <<>>}, release:shell(Port, ["exec ", Link, " -daemon"])),
    is_serving(Port).

any_path_will_do(Config) ->
    Port = ?config(port, Config),
    {0, _} = testkit:run(["mkdir", filename:join(?config(priv_dir, Config), "my ünit's")]),
    Copy = release:copy(filename:join(?config(priv_dir, Config), "my ünit's")),
    Variables = [{"COPY", Copy}, {"LC_ALL", "C"}],
    ?assertEqual({0, <<>>}, release:shell(Port, "exec \"$COPY/bin/epmd\" -daemon", Variables)),
    is_serving(Port),
    {ok, Executable} = file:read_link(["/proc/", release:pid(Port), "/exe"]),
    ?assertNotEqual(nomatch, string:find(Executable, "nit's")).

few_descriptors_suffice(Config) ->
    Port = ?config(port, Config),
    ?assertEqual({0, <<>>}, release:shell(Port, "ulimit -n 64; exec $EPMD -daemon")),
    is_serving(Port).

too_little_memory_is_told_or_suffices(Config) ->
    Port = ?config(port, Config),
    [
        begin
            Script = io_lib:format("ulimit -v ~b; exec $EPMD -daemon", [Kibibytes]),
            case release:shell(Port, Script) of
                {0, <<>>} -> ok;
                {1, <<"epmd: the Erlang virtual machine ended with status ", _/binary>>} -> ok
            end,
            %% It answers, or nobody is there: none of them is left hanging.
            {_, _} = release:run(Port, ["-names"]),
            release:end_all(Port)
        end
     || Kibibytes <- [100_000, 500_000, 1_000_000, 4_000_000]
    ].

wrong_flags_get_the_usage_as_from_c_epmd(Config) ->
    Port = ?config(port, Config),
    [
        [
            begin
                {Status, Output} = testkit:run(
                    ["sh", "-c", "exec \"$0\" \"$@\" 2>&1 >/dev/null", Program | Arguments],
                    [{env, release:environment(Port)}]
                ),
                ?assertEqual(1, Status, {Program, Arguments}),
                ?assertMatch({match, _}, re:run(Output, "usage: epmd", [caseless]), Arguments)
            end
         || Program <- [release:epmd(), os:find_executable("epmd")]
        ]
     || Arguments <- [
            ["-nonsense"], ["names"], [""], ["-port"], ["-port", "0"], ["-port", "x"],
            ["-names", "-port", "1"], ["-stop"], ["-address"], ["-packet_timeout", "0"],
            ["-daemon", "-nonsense"], ["--daemon"]
        ]
    ],
    ok = release:await_end(Port).

wrong_flags_of_its_own_get_the_usage(Config) ->
    Port = ?config(port, Config),
    [
        ?assertMatch({1, <<"epmd: ", _/binary>>}, release:run(Port, Arguments))
     || Arguments <- [
            ["-exposure", "none"], ["-exposure"], ["-max_nodes", "0"], ["-local_reserve", "all"], ["-json"], ["-daemon", "-json"], ["-lookup"],
            ["-address", "localhost"], ["-port", "65536"], ["-kill", "-json"]
        ]
    ],
    ok = release:await_end(Port).

local_exposure_binds_loopback_addresses_alone(Config) ->
    Port = ?config(port, Config),
    Variables = [{"ERL_EPMD_ADDRESS", false}],
    ?assertEqual({0, <<>>}, release:run(Port, ["-exposure", "local", "-daemon"], Variables)),
    {0, Facts} = release:run(Port, ["-info"]),
    {match, Addresses} = re:run(Facts, "^address (\\S+):\\d+$", [
        multiline, global, {capture, all_but_first, binary}
    ]),
    ?assertEqual([], lists:append(Addresses) -- [<<"127.0.0.1">>, <<"[::1]">>]),
    ?assert(lists:member([<<"127.0.0.1">>], Addresses)),
    ?assertMatch({0, _}, release:run(Port, ["-kill"])),
    ok = release:await_end(Port).

no_more_nodes_are_registered_than_an_option_says(Config) ->
    Port = ?config(port, Config),
    Options = ["-max_nodes", "3", "-max_nodes_per_process", "2", "-local_reserve", "10", "-daemon"],
    ?assertEqual({0, <<>>}, release:run(Port, Options)),
    {ok, Node, _} = testkit:register(Port, "n1", 1),
    {ok, _, _} = testkit:register(Port, "n2", 1),
    ?assertMatch(<<$v, 1, 99:32>>, testkit:request(Port, testkit:alive2("n3"))),
    {0, Facts} = release:run(Port, ["-info"]),
    ?assertMatch({match, _}, re:run(Facts, "^refused_too_many_nodes_of_process 1$", [multiline])),
    ok = gen_tcp:close(Node),
    {ok, _, _} = testkit:register(Port, "n3", 1).

is_serving(Port) ->
    ?assertEqual([], release:names(Port)).

%% What a node asks a port mapper by `-epmd_module portmapper_epmd': OTP's own module and
%% ours are told the same by the same port mapper, and return the same; and no
%% port mapper, however it behaves, takes more than the time that it is given.
-module(epmd_client_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, groups/0]).
-export([init_per_group/2, end_per_group/2]).
-export([
    look_ups_return_what_those_of_otp_do/1,
    listings_return_what_those_of_otp_do/1,
    registrations_return_what_those_of_otp_do/1,
    hosts_are_named_as_in_otp/1,
    a_node_without_a_port_mapper_is_as_in_otp/1,
    versions_are_those_that_otp_is_told_to_speak/1,
    a_look_up_takes_its_time_at_the_most/1,
    a_listing_takes_its_time_and_some_memory_at_the_most/1,
    nodes_of_a_host_are_listed_by_pattern/1
]).
%% Called in other VMs.
-export([hold/1, register/3, measure/3]).

-define(LOCALHOST, {127, 0, 0, 1}).
-define(V6, {0, 0, 0, 0, 0, 0, 0, 1}).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [{group, host}, {group, other_otp}].

groups() ->
    Cases = [
        look_ups_return_what_those_of_otp_do,
        listings_return_what_those_of_otp_do,
        registrations_return_what_those_of_otp_do,
        hosts_are_named_as_in_otp,
        a_node_without_a_port_mapper_is_as_in_otp
    ],
    Times = [
        versions_are_those_that_otp_is_told_to_speak,
        a_look_up_takes_its_time_at_the_most,
        a_listing_takes_its_time_and_some_memory_at_the_most
    ],
    Patterns = [nodes_of_a_host_are_listed_by_pattern],
    [{host, [], Cases ++ Times ++ Patterns}, {other_otp, [], Cases}].

init_per_group(host, Config) ->
    [{options, #{modules => [portmapper, testkit, ?MODULE]}} | Config];
init_per_group(other_otp, Config) ->
    case other_otp:start_with([testkit, ?MODULE]) of
        {ok, Options} -> [{options, Options} | Config];
        {unavailable, Reason} -> {skip, "no other OTP: " ++ Reason}
    end.

end_per_group(_Group, _Config) ->
    ok.

look_ups_return_what_those_of_otp_do(Config) ->
    {Scripted, VM} = start(Config, []),
    Found = fun(Highest, Lowest) ->
        <<"w", 0, 4711:16, 77, 0, Highest:16, Lowest:16, 1:16, "n", 0:16>>
    end,
    Head = binary:part(Found(6, 5), 0, 7),
    Tail = binary:part(Found(6, 5), 7, 8),
    Scripts = [
        [Found(6, 5), close],
        [Found(5, 5), close],
        [Found(9, 6), close],
        [Found(4, 1), close],
        [Found(9, 7), close],
        [Head, {later, Tail}, close],
        ["w", {later, [0]}, {later, binary:part(Found(6, 5), 2, 13)}, close],
        [Found(6, 5), {later, "and more"}, close],
        [["w", 1], close],
        [["w", 1, "n"], close],
        [close],
        ["w", close],
        ["g", close],
        [Head, close],
        ["garbage", close],
        [["w" | lists:duplicate(20, 0)], close],
        [Found(6, 5), Found(6, 5), close]
    ],
    Calls = [
        [port_please, Arguments]
     || Arguments <- [["n", ?LOCALHOST], [n, ?LOCALHOST, 5000], ["n", "127.0.0.1"], [n, ?V6]]
    ],
    [compare(VM, Scripted, Script, Call) || Script <- Scripts, Call <- Calls],
    ?assertEqual({port, 4711, 6}, ask(VM, Scripted, [Found(6, 5), close], hd(Calls))).

listings_return_what_those_of_otp_do(Config) ->
    {Scripted, VM} = start(Config, []),
    Port = <<(scripted:port(Scripted)):32>>,
    Lines = "name b at port 4712\nname a at port 4711\n",
    Scripts = [
        [[Port, Lines], close],
        [[Port, "name b at"], {later, " port 4712\nname"}, {later, " a at port 4711\n"}, close],
        [Port, close],
        [[Port, Lines, "name c at port 4"], close],
        [[Port, "\nname\nname x\nname d at port no\nsome x at port 1\n", Lines], close],
        [[<<1:32>>, Lines], close],
        [close],
        [<<0, 0>>, close]
    ],
    [
        compare(VM, Scripted, Script, [names, [Host]])
     || Script <- Scripts, Host <- [?LOCALHOST, localhost, "127.0.0.1", ?V6]
    ],
    ?assertEqual(
        {ok, [{"a", 4711}, {"b", 4712}]},
        ask(VM, Scripted, [[Port, Lines], close], [names, [?LOCALHOST]])
    ),
    compare(VM, Scripted, [[Port, Lines], close], [names, []]).

registrations_return_what_those_of_otp_do(Config) ->
    {Scripted, VM} = start(Config, []),
    Scripts = [
        [<<"v", 0, 1795438727:32>>, silence],
        [<<"y", 0, 3:16>>, silence],
        [<<"v", 1, 99:32>>, silence],
        [<<"v", 1, 99:32>>, close],
        [<<"y", 1, 99:16>>, close],
        ["v", {later, [0]}, close],
        ["garbage", close],
        [<<"v", 0, 1:32, "more">>, close],
        [close]
    ],
    [
        begin
            ok = scripted:set(Scripted, Script),
            [Otp, Ours] = [
                testkit:call(VM, ?MODULE, register, [Module, ["n", 4711 | Family], Times])
             || Module <- [erl_epmd, portmapper_epmd]
            ],
            ?assertEqual({Script, Family, Otp}, {Script, Family, Ours})
        end
     || Script <- Scripts, {Family, Times} <- [{[], 2}, {[inet_tcp], 1}, {[inet6_tcp], 1}]
    ].

hosts_are_named_as_in_otp(Config) ->
    {Scripted, VM} = start(Config, []),
    Hosts = ["nowhere.invalid", 'nowhere.invalid', "127.0.0.1", "::1", localhost],
    Calls =
        [[address_please, ["n", Host, Family]] || Host <- Hosts, Family <- [inet, inet6]] ++
            [[names, [hd(Hosts)]], [port_please, [n, hd(Hosts)]], [port_please, [n, hd(Hosts), 9000]]],
    [compare(VM, Scripted, [close], Call) || Call <- Calls].

a_node_without_a_port_mapper_is_as_in_otp(Config) ->
    Arguments = ["-erl_epmd_port", "5999"],
    {Scripted, VM} = start(Config, Arguments),
    ok = scripted:stop(Scripted),
    Compare = fun(In, Call) -> compare(In, Scripted, none, Call) end,
    Compare(VM, [listen_port_please, ["n", "host"]]),
    Compare(VM, [port_please, [n, "nowhere.invalid"]]),
    ?assertEqual(
        {ok, 5999}, testkit:call(VM, portmapper_epmd, listen_port_please, ["n", "host"])
    ),
    Register = [
        testkit:call(VM, ?MODULE, register, [Module, [n, 5999], 2])
     || Module <- [erl_epmd, portmapper_epmd]
    ],
    ?assertEqual([[{ok, -1}, {ok, -1}], [{ok, -1}, {ok, -1}]], Register),
    %% And without that argument.
    {Other, Without} = start(Config, []),
    ok = scripted:stop(Other),
    [
        Compare(Without, Call)
     || Call <- [
            [listen_port_please, ["n", "host"]],
            [port_please, [n, ?LOCALHOST]],
            [names, [?LOCALHOST]]
        ]
    ],
    ?assertEqual(
        [{error, econnrefused}],
        testkit:call(Without, ?MODULE, register, [portmapper_epmd, [n, 5999], 1])
    ).

versions_are_those_that_otp_is_told_to_speak(Config) ->
    {Scripted, VM} = start(Config, []),
    Found = <<"w", 0, 4711:16, 77, 0, 6:16, 5:16, 1:16, "n", 0:16>>,
    [
        begin
            true = testkit:call(VM, os, putenv, ["ERL_EPMD_DIST_HIGH", Highest]),
            true = testkit:call(VM, os, putenv, ["ERL_EPMD_DIST_LOW", Lowest]),
            compare(VM, Scripted, [Found, close], [port_please, [n, ?LOCALHOST]])
        end
     || Highest <- ["5", "4", "7", "x"], Lowest <- ["5", "6", "7", "1", ""]
    ].

a_look_up_takes_its_time_at_the_most(Config) ->
    {Scripted, VM} = start(Config, []),
    Head = <<"w", 0, 4711:16, 77>>,
    [
        begin
            ok = scripted:set(Scripted, Script),
            {Time, Result, _} = testkit:call(VM, ?MODULE, measure, [
                portmapper_epmd, port_please, [n, ?LOCALHOST, 300]
            ]),
            ?assertEqual({Script, Expected}, {Script, Result}),
            ?assert(Time < 2000)
        end
     || {Script, Expected} <- [
            {[silence], noport},
            {["w", silence], noport},
            {[Head, silence], noport},
            {[<<Head/binary, 0, 6:16, 5:16, 0:16>>, endless], {port, 4711, 6}},
            {[<<Head/binary, 0, 6:16, 5:16, 0:16>>, silence], {port, 4711, 6}},
            {[["w", 1], endless], noport}
        ]
    ].

a_listing_takes_its_time_and_some_memory_at_the_most(Config) ->
    {Scripted, VM} = start(Config, []),
    Port = <<(scripted:port(Scripted)):32>>,
    Long = binary:copy(<<"x">>, 10_000),
    [
        begin
            ok = scripted:set(Scripted, Script),
            {Time, Result, Memory} = testkit:call(VM, ?MODULE, measure, [
                portmapper_client, names, [?LOCALHOST, scripted:port(Scripted), 3000]
            ]),
            ?assertEqual(Expected, Result),
            ?assert(Time < 6000),
            %% A listing of eight megabytes as a list of names.
            ?assert(Memory < 150_000_000)
        end
     || {Script, Expected} <- [
            {[silence], {error, etimedout}},
            {[[Port, "name a at port 1\n"], silence], {error, etimedout}},
            {[Port, endless], {error, emsgsize}},
            {[[Port, "name ", Long], {later, Long}, silence], {error, emsgsize}}
        ]
    ].

%% By whatever port mapper is there: ours is asked for those alone, and C epmd for all.
nodes_of_a_host_are_listed_by_pattern(_Config) ->
    {PortMapper, Port} = testkit:start_portmapper(),
    Node = lists_by_pattern(Port),
    #{counters := Counters} = testkit:call(PortMapper, portmapper, info, []),
    ?assertMatch(#{listings := 3, refused := #{unknown_request := 0}}, Counters),
    ok = testkit:stop(Node),
    {Epmd, EpmdPort} = c_epmd:start(),
    Other = lists_by_pattern(EpmdPort),
    ok = c_epmd:stop(Epmd),
    ?assertEqual(
        {error, address}, testkit:call(Other, portmapper_epmd, names, ["web*", ?LOCALHOST])
    ).

lists_by_pattern(Port) ->
    Node = epmd_node:start(web1, client, Port),
    [{ok, _, _} = testkit:register(Port, Name, 4711) || Name <- ["db1", "web2"]],
    Names = fun(Glob, Host) ->
        {ok, Found} = testkit:call(Node, portmapper_epmd, names, [Glob, Host]),
        lists:sort([Name || {Name, _} <- Found])
    end,
    ?assertEqual(["web1", "web2"], Names("web*", "127.0.0.1")),
    ?assertEqual(["db1"], Names('[!w]?*', localhost)),
    ?assertEqual([], Names(<<"x*">>, ?LOCALHOST)),
    Node.

%% A port mapper, and a VM whose port mapper it is.
start(Config, Arguments) ->
    Scripted = scripted:start(),
    Options = ?config(options, Config),
    VM = testkit:start_vm(Options#{
        args => maps:get(args, Options, []) ++ Arguments,
        logger_level => none,
        env => testkit:epmd_port(scripted:port(Scripted))
    }),
    {Scripted, VM}.

compare(VM, Scripted, Script, Call) ->
    Otp = ask(VM, Scripted, Script, [erl_epmd | Call]),
    ?assertEqual({Script, Call, Otp}, {Script, Call, ask(VM, Scripted, Script, Call)}).

ask(VM, Scripted, Script, [Function, Arguments]) ->
    ask(VM, Scripted, Script, [portmapper_epmd, Function, Arguments]);
ask(VM, Scripted, Script, [Module, Function, Arguments]) ->
    Script =:= none orelse scripted:set(Scripted, Script),
    testkit:call(VM, Module, Function, Arguments).

%% @doc Registers so many times with a module that is started for that.
-spec register(module(), list(), pos_integer()) -> [term()].
register(Module, Arguments, Times) ->
    {Pid, Monitor} = spawn_monitor(?MODULE, hold, [Module]),
    ok = await_start(Module),
    Results = [apply(Module, register_node, Arguments) || _ <- lists:seq(1, Times)],
    exit(Pid, shutdown),
    receive
        {'DOWN', Monitor, process, Pid, _} -> Results
    end.

await_start(Name) when Name =:= portmapper_epmd -> await_start(portmapper_registration);
await_start(Name) -> testkit:wait_until(fun() -> whereis(Name) =/= undefined end).

%% @private As a supervisor does.
hold(Module) ->
    process_flag(trap_exit, true),
    {ok, Pid} = Module:start_link(),
    receive
        {'EXIT', _, shutdown} -> ok
    end,
    exit(Pid, shutdown),
    receive
        {'EXIT', Pid, _} -> ok
    end.

%% @doc How many milliseconds a call takes, its result, and how many bytes its process
%% has afterwards.
-spec measure(module(), atom(), list()) ->
    {Milliseconds :: integer(), Result :: term(), Bytes :: integer()}.
measure(Module, Function, Arguments) ->
    {_, Monitor} = spawn_monitor(fun() ->
        {Time, Result} = timer:tc(Module, Function, Arguments),
        {memory, Memory} = process_info(self(), memory),
        exit({Time div 1000, Result, Memory})
    end),
    receive
        {'DOWN', Monitor, process, _, Measured} -> Measured
    end.

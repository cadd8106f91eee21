%% The VM that is the port mapper of its host dies again and again, and nodes of two
%% clusters and of OTP live on. `make takeover-race' does it 50 times, and measures how long
%% OTP's nodes are unlisted when OTP's own port mapper is started again.
-module(epmd_race_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([suite/0, all/0, init_per_suite/1, end_per_suite/1]).
-export([all_nodes_are_listed_again_when_the_host_is_killed/1]).

%% How often the host is killed, unless the variable TAKEOVER_RACE_KILLS says it.
-define(KILLS, "3").
%% Milliseconds until all of ours are listed, and those of OTP.
-define(LIMIT, 250).
-define(OTP_LIMIT, 4000).

suite() ->
    [{timetrap, {minutes, 15}}].

all() ->
    [all_nodes_are_listed_again_when_the_host_is_killed].

init_per_suite(Config) ->
    [{place, epmd_node:place()} | Config].

end_per_suite(Config) ->
    epmd_node:leave(?config(place, Config)).

all_nodes_are_listed_again_when_the_host_is_killed(_Config) ->
    Kills = list_to_integer(os:getenv("TAKEOVER_RACE_KILLS", ?KILLS)),
    Port = own_vm:free_port(),
    Ours = maps:from_list([{Name, start(Name, Port)} || Name <- [a1, b1, a2, b2, a3]]),
    Otp = maps:from_list([{Name, start_otp(Name, Port)} || Name <- [a_otp, b_otp]]),
    {OursTimes, OtpTimes} = lists:unzip(rounds(Kills, Port, Ours, Otp)),
    ct:pal("milliseconds, round by round: ~w", [OursTimes]),
    Table = [
        header(Kills),
        row("ours, host killed", OursTimes),
        row("OTP's, host killed", OtpTimes)
        | otp_rows(min(Kills, 20))
    ],
    ct:pal("~ts", [Table]),
    os:getenv("TAKEOVER_RACE_KILLS") =/= false andalso io:format(user, "~n~ts", [Table]),
    ?assertEqual([], [Time || Time <- OursTimes, Time > ?LIMIT]),
    ?assertEqual([], [Time || Time <- OtpTimes, Time > ?OTP_LIMIT]).

rounds(0, _Port, _Ours, _Otp) ->
    [];
rounds(Left, Port, Ours, Otp) ->
    Host = epmd_node:host(Ours),
    Living = maps:remove(Host, Ours),
    Begun = erlang:monotonic_time(millisecond),
    ok = testkit:kill(maps:get(Host, Ours)),
    OursTime = until_listed(maps:keys(Living), Port, Begun),
    %% The new host serves, and nobody else.
    New = epmd_node:host(Living),
    ?assert(New =/= Host),
    meet(maps:to_list(Living)),
    OtpTime = until_listed(maps:keys(maps:merge(Living, Otp)), Port, Begun),
    meet(maps:to_list(maps:merge(Living, Otp))),
    Again = Living#{Host => start(Host, Port)},
    _ = until_listed(maps:keys(maps:merge(Again, Otp)), Port, Begun),
    [{OursTime, OtpTime} | rounds(Left - 1, Port, Again, Otp)].

%% Milliseconds since then until all of these are listed; no name ever is twice.
until_listed(Names, Port, Begun) ->
    ok = testkit:wait_until(
        fun() ->
            Listed = epmd_node:listed(Port),
            ?assertEqual(lists:usort(Listed), Listed),
            Names -- Listed =:= []
        end,
        60_000
    ),
    erlang:monotonic_time(millisecond) - Begun.

start(Name, Port) ->
    in_cluster(Name, epmd_node:start(Name, auto, Port, #{args => ["-connect_all", "false"]})).

start_otp(Name, Port) ->
    in_cluster(Name, testkit:start_node(Name, Port, ["-connect_all", "false"])).

in_cluster(Name, VM) ->
    true = testkit:call(VM, erlang, set_cookie, [cluster(Name)]),
    VM.

cluster(Name) ->
    list_to_atom("cluster_" ++ [hd(atom_to_list(Name))]).

%% The members of each cluster look each other up, and connect.
meet(VMs) ->
    [
        begin
            Node = list_to_atom(atom_to_list(Name) ++ "@127.0.0.1"),
            _ = testkit:call(VM, erlang, disconnect_node, [Node]),
            ?assertEqual(pong, testkit:call(VM, net_adm, ping, [Node]))
        end
     || {Other, VM} <- VMs, {Name, _} <- VMs, Name =/= Other, cluster(Name) =:= cluster(Other)
    ],
    ok.

%% The same for nodes of OTP and OTP's port mapper, which is started again at once.
otp_rows(Kills) ->
    case clients:program("epmd") of
        false ->
            [];
        Epmd ->
            Port = own_vm:free_port(),
            Start = fun() -> start_epmd(Epmd, Port) end,
            First = Start(),
            Names = [a_otp, b_otp],
            Nodes = [start_otp(Name, Port) || Name <- Names],
            {Times, Last} = lists:mapfoldl(
                fun(_, Running) ->
                    Begun = erlang:monotonic_time(millisecond),
                    ok = program:stop(Running),
                    %% Or else the next one ends, because the port is taken.
                    ok = testkit:wait_until(fun() -> not accepts(Port) end),
                    Next = Start(),
                    {until_listed(Names, Port, Begun), Next}
                end,
                First,
                lists:seq(1, Kills)
            ),
            ok = program:stop(Last),
            lists:foreach(fun testkit:stop/1, Nodes),
            [row("OTP's, C epmd killed", Times)]
    end.

start_epmd(Epmd, Port) ->
    Program = program:start([Epmd, "-port", integer_to_list(Port), "-address", "127.0.0.1"], []),
    ok = testkit:wait_until(fun() -> accepts(Port) end),
    Program.

accepts(Port) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, []) of
        {ok, Socket} -> gen_tcp:close(Socket) =:= ok;
        {error, _} -> false
    end.

header(Kills) ->
    Words = ["nodes, in ms", "n", "min", "median", "p90", "p99", "max"],
    [
        io_lib:format("~b kills of the host (kill -9): until all are listed again~n", [Kills]),
        io_lib:format("| ~-22s | ~4s | ~6s | ~6s | ~6s | ~6s | ~6s |~n", Words),
        "|---|---:|---:|---:|---:|---:|---:|\n"
    ].

row(Name, Times) ->
    Sorted = lists:sort(Times),
    Count = length(Sorted),
    At = fun(Part) -> lists:nth(max(1, ceil(Part * Count)), Sorted) end,
    Figures = [Count, hd(Sorted), At(0.5), At(0.9), At(0.99), lists:last(Sorted)],
    io_lib:format("| ~-22s | ~4b | ~6b | ~6b | ~6b | ~6b | ~6b |~n", [Name | Figures]).

%% A VM takes over from another one: nodes and clients notice nothing, whatever fails.
-module(takeover_SUITE).

-include_lib("common_test/include/ct.hrl").
-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, init_per_testcase/2, end_per_testcase/2]).
-export([
    nodes_and_clients_notice_nothing/1,
    two_thousand_nodes_survive_ten_takeovers_in_a_row/1,
    eighteen_thousand_nodes_are_taken_over/1,
    the_old_vm_ends_with_status_0/1,
    a_vm_that_does_other_work_goes_on/1,
    a_successor_that_is_killed_costs_nothing/1,
    an_old_vm_that_is_killed_leaves_everything_or_a_clear_error/1,
    of_two_at_once_one_takes_over/1,
    a_successor_with_too_few_descriptors_gives_up/1,
    it_goes_to_another_otp_and_back/1,
    another_user_is_refused/1,
    root_takes_over_from_another_user/1,
    a_taken_over_vm_restarts_its_application_as_ever/1,
    errors_are_told_and_change_nothing/1
]).

suite() ->
    %% The other OTP may have to be downloaded first.
    [{timetrap, {minutes, 5}}].

all() ->
    [
        nodes_and_clients_notice_nothing,
        two_thousand_nodes_survive_ten_takeovers_in_a_row,
        eighteen_thousand_nodes_are_taken_over,
        the_old_vm_ends_with_status_0,
        a_vm_that_does_other_work_goes_on,
        a_successor_that_is_killed_costs_nothing,
        an_old_vm_that_is_killed_leaves_everything_or_a_clear_error,
        of_two_at_once_one_takes_over,
        a_successor_with_too_few_descriptors_gives_up,
        it_goes_to_another_otp_and_back,
        another_user_is_refused,
        root_takes_over_from_another_user,
        a_taken_over_vm_restarts_its_application_as_ever,
        errors_are_told_and_change_nothing
    ].

%% The socket is in a directory that no other case knows. (The one of the case has too
%% long a path.)
init_per_testcase(Case, Config) ->
    Unique = integer_to_list(erlang:unique_integer([positive])),
    Directory = filename:join("/tmp", lists:concat(["takeover-", os:getpid(), "-", Unique])),
    ok = file:make_dir(Directory),
    [{socket, filename:join(Directory, "socket")}, {testcase, Case} | Config].

end_per_testcase(_Case, Config) ->
    ok = file:del_dir_r(filename:dirname(?config(socket, Config))).

nodes_and_clients_notice_nothing(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = testkit:start_nodes([a, b], Port),
    Before = [testkit:call(Old, portmapper, lookup, [Name, #{holder => false}]) || Name <- [a, b]],
    %% Another cookie: these are no nodes of each other.
    New = successor:start(Config, Port, #{args => ["-setcookie", "another"]}),
    ?assertEqual(
        Before,
        [testkit:call(New, portmapper, lookup, [Name, #{holder => false}]) || Name <- [a, b]]
    ),
    ?assertMatch(#{takeover := false, port := Port}, testkit:call(New, portmapper, config, [])),
    [First, Second] = Nodes,
    ?assertEqual(pong, testkit:call(First, net_adm, ping, ['b@127.0.0.1'])),
    ok = testkit:stop(Second),
    testkit:wait_until(fun() -> testkit:lookup(Port, "b") =:= not_found end),
    ok = testkit:stop(First).

two_thousand_nodes_survive_ten_takeovers_in_a_row(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = successor:register_many(Port, 2000),
    Listing = testkit:names(Port),
    Clients = [successor:start_client(Port, 2000) || _ <- [1, 2, 3]],
    {Last, Times} = lists:foldl(
        fun(_, {VM, Times}) ->
            {Time, Next} = successor:take_over(Config, Port, VM),
            {Next, [Time | Times]}
        end,
        {Old, []},
        lists:seq(1, 10)
    ),
    Figures = [successor:stop_client(Client) || Client <- Clients],
    ct:pal("takeovers took ~w ms; look-ups and the slowest in ms: ~w", [Times, Figures]),
    successor:assert_held(Last, Port, Nodes),
    ?assertEqual(Listing, testkit:names(Port)).

%% How long that takes is measured by `make soak-scale'.
eighteen_thousand_nodes_are_taken_over(Config) ->
    {Soft, _} = string:to_integer(os:cmd("ulimit -Hn")),
    Soft =/= error andalso Soft < 19_000 andalso throw({skip, "too few open files are allowed"}),
    {Old, Port} = successor:start_first(Config),
    Holders = [successor:start_holder(Port, From, 6_000) || From <- [1, 6_001, 12_001]],
    [receive {Holder, registered} -> ok end || Holder <- Holders],
    Count = fun(VM) -> testkit:call(VM, portmapper, count, []) end,
    ?assertEqual(18_000, Count(Old)),
    Client = successor:start_client(Port, 18_000),
    {Time, New} = successor:take_over(Config, Port, Old),
    {Lookups, Slowest} = successor:stop_client(Client),
    ct:pal("18,000 nodes: ~w ms, ~w look-ups, the slowest ~w ms", [Time, Lookups, Slowest]),
    ?assertEqual(18_000, Count(New)),
    [Holder ! stop || Holder <- Holders],
    testkit:wait_until(fun() -> Count(New) =:= 0 end).

the_old_vm_ends_with_status_0(Config) ->
    {_, Port} = successor:start_first(Config, #{type => permanent}),
    Exec = {"/bin/sh", ["-c", "erl \"$@\"; echo $? >\"$STATUS\"", "sh"]},
    Status = filename:join(?config(priv_dir, Config), "status"),
    Options = #{exec => Exec, env => [{"STATUS", Status}], type => permanent},
    First = successor:start(Config, Port, Options),
    Monitor = monitor(process, maps:get(peer, First)),
    _ = successor:start(Config, Port, #{}),
    receive
        {'DOWN', Monitor, process, _, _} -> ok
    end,
    testkit:wait_until(fun() -> file:read_file(Status) =:= {ok, <<"0\n">>} end).

a_vm_that_does_other_work_goes_on(Config) ->
    {Old, Port} = successor:start_first(Config),
    {ok, Creation} = testkit:call(Old, portmapper, register, [own, 4711]),
    New = successor:start(Config, Port, #{}),
    successor:wait_for_end(Old),
    %% Its own names were its own.
    ?assertEqual(not_found, testkit:lookup(Port, "own")),
    ?assertEqual({ok, Creation + 1}, testkit:call(New, portmapper, register, [own, 4711])).

%% At whatever moment: the old one is as it was, or the new one has everything.
a_successor_that_is_killed_costs_nothing(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = successor:register_many(Port, 2_000),
    Open = descriptors(Old),
    %% It ends when it is not answered.
    Client = spawn(fun() -> try successor:look_up(Port, 2_000) catch _:_ -> ended end end),
    Outcomes = [
        begin
            Successor = successor:prepare(Config, Port, #{}),
            {_, Monitor} = spawn_monitor(fun() ->
                exit(testkit:call(Successor, portmapper, takeover, []))
            end),
            ok = successor:busy_wait(Microseconds),
            ok = testkit:kill(Successor),
            receive
                {'DOWN', Monitor, process, _, _} -> ok
            end,
            successor:is_running(Old)
        end
     || Microseconds <- [0, 2_000, 5_000, 8_000, 10_000, 12_000, 15_000, 18_000, 22_000, 26_000],
        successor:is_running(Old)
    ],
    ct:pal("the old one went on: ~w", [Outcomes]),
    %% If the last one had just taken over, it was the port mapper that was killed.
    case lists:last(Outcomes) of
        true ->
            ?assert(is_process_alive(Client)),
            %% But for a client's that is being served.
            testkit:wait_until(fun() -> descriptors(Old) =< Open + 1 end),
            successor:assert_held(Old, Port, Nodes);
        false ->
            ok
    end,
    exit(Client, kill),
    ?assert(length(Outcomes) > 1).

descriptors(#{os_pid := Pid}) ->
    {ok, Files} = file:list_dir(["/proc/", Pid, "/fd"]),
    length(Files).

an_old_vm_that_is_killed_leaves_everything_or_a_clear_error(Config) ->
    Outcomes = [
        begin
            {Old, Port} = successor:start_first(Config),
            Nodes = successor:register_many(Port, 1_000),
            New = successor:prepare(Config, Port, #{}),
            Self = self(),
            Taking = spawn(fun() ->
                Self ! {self(), testkit:call(New, portmapper, takeover, [])}
            end),
            ok = successor:busy_wait(Microseconds),
            ok = testkit:kill(Old),
            Outcome = receive {Taking, Result} -> Result end,
            %% It came too early to be told anything, or it has everything.
            Outcome =:= ok andalso successor:assert_held(New, Port, Nodes),
            [ok = gen_tcp:close(Socket) || {Socket, _, _} <- Nodes],
            ok = testkit:stop(New),
            Outcome
        end
     || Microseconds <- [0, 3_000, 6_000, 9_000, 12_000, 15_000, 20_000, 40_000]
    ],
    ct:pal("~p", [Outcomes]),
    [
        ?assert(lists:member(Tag, [takeover_failed, no_port_mapper]))
     || {error, {Tag, _}} <- Outcomes
    ],
    ?assertEqual(ok, lists:last(Outcomes)).

of_two_at_once_one_takes_over(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = successor:register_many(Port, 500),
    Successors = [successor:prepare(Config, Port, #{}) || _ <- [1, 2]],
    Self = self(),
    Taking = [
        spawn(fun() -> Self ! {self(), VM, testkit:call(VM, portmapper, takeover, [])} end)
     || VM <- Successors
    ],
    Outcomes = [receive {Pid, VM, Outcome} -> {Outcome, VM} end || Pid <- Taking],
    %% The second may come so late that it takes over from the first.
    case lists:keysort(1, Outcomes) of
        [{ok, _}, {ok, _}] ->
            Running = fun() -> [VM || VM <- Successors, successor:is_running(VM)] end,
            testkit:wait_until(fun() -> length(Running()) =:= 1 end),
            [Last] = Running(),
            successor:assert_held(Last, Port, Nodes);
        [{ok, Winner}, {{error, Reason}, Loser}] ->
            ?assertMatch({takeover_refused, #{reason := taken_over}}, Reason),
            ?assertNot(successor:is_running(Loser)),
            successor:assert_held(Winner, Port, Nodes)
    end,
    successor:wait_for_end(Old).

a_successor_with_too_few_descriptors_gives_up(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = successor:register_many(Port, 1_000),
    Exec = {"/bin/sh", ["-c", "ulimit -n 500; exec erl \"$@\"", "sh"]},
    VM = successor:prepare(Config, Port, #{exec => Exec}),
    {error, Reason} = testkit:call(VM, portmapper, takeover, []),
    ?assertEqual(
        "cannot take over, the other portmapper goes on: Too many open files (os error 24)",
        unicode:characters_to_list(portmapper:format_error(Reason))
    ),
    successor:assert_held(Old, Port, Nodes).

it_goes_to_another_otp_and_back(Config) ->
    Options =
        case other_otp:start_with([]) of
            {ok, Given} -> Given;
            {unavailable, Reason} -> throw({skip, "no other OTP: " ++ Reason})
        end,
    %% That system sees nothing of this one but what is in it.
    {ok, System} = other_otp:make(),
    {Socket, SocketThere} = other_otp:file(System, "socket"),
    OtherOtp = Options#{socket => SocketThere},
    Host = [{socket, Socket} | proplists:delete(socket, Config)],
    {Old, Port} = successor:start_first(Host),
    Nodes = successor:register_many(Port, 100),
    Release = fun(VM) -> testkit:call(VM, erlang, system_info, [otp_release]) end,
    Newer = successor:start(Host, Port, OtherOtp),
    ?assertNotEqual(Release(Old), Release(Newer)),
    successor:assert_held(Newer, Port, Nodes),
    Back = successor:start(Host, Port, #{}),
    successor:assert_held(Back, Port, Nodes),
    ok = testkit:stop(Back).

root_takes_over_from_another_user(Config) ->
    Options = as_another_user(Config),
    Directory = filename:join(filename:dirname(?config(socket, Config)), "nobody"),
    ok = file:make_dir(Directory),
    ok = file:change_owner(Directory, 65534, 65534),
    Place = lists:keystore(socket, 1, Config, {socket, filename:join(Directory, "socket")}),
    {Old, Port} = successor:start_first(Place, Options),
    Nodes = successor:register_many(Port, 10),
    New = successor:start(Place, Port, #{}),
    successor:wait_for_end(Old),
    successor:assert_held(New, Port, Nodes),
    ok = testkit:stop(New),
    ok = file:del_dir_r(Directory).

%% What has a VM belong to the user that is nobody.
as_another_user(Config) ->
    Script = "exec setpriv --reuid=65534 --regid=65534 --clear-groups erl \"$@\"",
    Code = code:which(portmapper),
    As = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"],
    os:find_executable("setpriv") =/= false andalso
        element(1, testkit:run(As ++ ["test", "-r", Code])) =:= 0 orelse
        throw({skip, "no other user can be had here (not root, or the project is private)"}),
    ok = file:change_mode(filename:dirname(?config(socket, Config)), 8#755),
    #{exec => {"/bin/sh", ["-c", Script, "sh"]}, env => [{"HOME", "/"}]}.

another_user_is_refused(Config) ->
    {Old, Port} = successor:start_first(Config),
    Nodes = successor:register_many(Port, 1),
    Socket = ?config(socket, Config),
    Other = successor:prepare(Config, Port, as_another_user(Config)),
    ?assertMatch(
        {error, {takeover_not_permitted, _}}, testkit:call(Other, portmapper, takeover, [])
    ),
    %% Where the file lets everybody in, the port mapper does not.
    ok = file:change_mode(Socket, 8#666),
    ?assertEqual(
        {error, {takeover_refused, #{reason => not_permitted}}},
        testkit:call(Other, portmapper, takeover, [])
    ),
    successor:assert_held(Old, Port, Nodes).

a_taken_over_vm_restarts_its_application_as_ever(Config) ->
    {Old, Port} = successor:start_first(Config),
    New = successor:start(Config, Port, #{}),
    ?assertEqual(undefined, testkit:call(New, application, get_env, [portmapper, takeover])),
    %% Until then it may have the listening socket open, too.
    Running = fun() -> testkit:call(Old, application, which_applications, []) end,
    testkit:wait_until(fun() -> not lists:keymember(portmapper, 1, Running()) end),
    ok = testkit:call(New, portmapper, stop, []),
    ok = testkit:call(New, application, start, [portmapper]),
    ?assertEqual([], testkit:names(Port)),
    ?assertEqual(
        {error, {already_started, portmapper}}, testkit:call(New, portmapper, takeover, [])
    ).

errors_are_told_and_change_nothing(Config) ->
    Socket = ?config(socket, Config),
    Keys = #{takeover_socket => Socket, addresses => ["127.0.0.1"]},
    VM = testkit:start_vm(#{logger_level => critical}),
    TakeOver = fun(More) ->
        {error, Reason} = testkit:call(VM, portmapper, takeover, [maps:merge(Keys, More)]),
        unicode:characters_to_list(portmapper:format_error(Reason))
    end,
    ?assertEqual(
        "cannot take over: no portmapper at " ++ Socket ++
            ": No such file or directory (os error 2)",
        TakeOver(#{})
    ),
    ?assertEqual(
        "takeover_socket is none, expected default or a path, to take over",
        TakeOver(#{takeover_socket => none})
    ),
    ?assertEqual("port is nil, expected an integer from 0 to 65535", TakeOver(#{port => nil})),
    ?assertEqual([], [Key || {Key, _} <- testkit:call(VM, application, get_all_env, [portmapper])]),
    %% A service manager keeps everything itself.
    Manager = service_manager:start(),
    Variables = service_manager:environment(Manager),
    Options = #{config => #{systemd => true}, env => Variables},
    {Managed, Port} = successor:start_first(Config, Options),
    ?assertEqual(
        "cannot take over: the other portmapper reports to a service manager, which keeps "
        "everything while it restarts it: systemctl restart epmd",
        TakeOver(#{})
    ),
    ?assert(successor:is_running(Managed)),
    ?assertEqual([], testkit:names(Port)),
    ok = service_manager:stop(Manager).

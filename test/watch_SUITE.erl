%% Port mappers, also of other hosts, are watched: what comes and goes is told, whatever the
%% other side and the network do.
-module(watch_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, suite/0, end_per_testcase/2]).
-export([
    a_port_mapper_is_watched/1,
    a_watch_is_taken_up_again_after_a_restart/1,
    c_epmd_cannot_be_watched/1,
    a_lying_port_mapper_is_not_believed/1,
    a_slow_process_is_told_no_more_than_it_can_take/1,
    a_watch_ends_with_its_process/1,
    a_network_that_is_gone_is_noticed_within_seconds/1,
    a_liar_is_asked_less_and_less/1,
    a_liar_that_repeats_itself_is_heard_less_and_less/1
]).
%% Called in other VMs.
-export([watch/1, told/0]).

suite() ->
    [{timetrap, {seconds, 60}}].

all() ->
    [
        a_port_mapper_is_watched,
        a_watch_is_taken_up_again_after_a_restart,
        c_epmd_cannot_be_watched,
        a_lying_port_mapper_is_not_believed,
        a_slow_process_is_told_no_more_than_it_can_take,
        a_watch_ends_with_its_process,
        a_network_that_is_gone_is_noticed_within_seconds,
        a_liar_is_asked_less_and_less,
        a_liar_that_repeats_itself_is_heard_less_and_less
    ].

end_per_testcase(_Case, _Config) ->
    own_vm:stop().

a_port_mapper_is_watched(_Config) ->
    Port = own_vm:start(),
    {ok, _} = portmapper:register("db1", 1001),
    {ok, Creation} = portmapper:register("wöb1", 1002),
    {ok, Pid} = portmapper_watch:start_link(#{host => "127.0.0.1", port => Port, glob => "w*"}),
    Name = <<"wöb1"/utf8>>,
    Node = #{name => Name, port => 1002, type => 77, creation => Creation},
    ?assertEqual({2, {nodes, [Node], 0}}, told(Pid)),
    ok = portmapper:drop("db1"),
    ok = portmapper:drop("wöb1"),
    ?assertEqual({4, {down, #{name => Name, creation => Creation, reason => dropped}}}, told(Pid)),
    {ok, Next} = portmapper:register("wöb1", 1003),
    ?assertEqual({5, {up, Node#{port := 1003, creation := Next}}}, told(Pid)),
    ok = portmapper_watch:stop(Pid),
    testkit:wait_until(fun() -> maps:get(open_connections, portmapper:info()) =:= 0 end),
    ?assertEqual([], messages()).

a_watch_is_taken_up_again_after_a_restart(_Config) ->
    Port = own_vm:start(),
    {ok, Pid} = portmapper_watch:start_link(#{host => "127.0.0.1", port => Port}),
    {0, {nodes, [], 0}} = told(Pid),
    ok = portmapper:stop(),
    ?assertEqual({0, {lost, closed}}, told(Pid)),
    ok = application:set_env(portmapper, port, Port),
    ok = application:start(portmapper),
    {ok, _} = portmapper:register("n1", 1),
    Names = told_names(Pid),
    ?assertEqual([<<"n1">>], Names),
    ok = portmapper_watch:stop(Pid).

%% It may be registered before or after it is connected again.
told_names(Pid) ->
    case told(Pid) of
        {_, {nodes, [], 0}} ->
            {1, {up, #{name := Name}}} = told(Pid),
            [Name];
        {_, {nodes, Nodes, 0}} ->
            [Name || #{name := Name} <- Nodes]
    end.

c_epmd_cannot_be_watched(_Config) ->
    {Epmd, Port} = c_epmd:start(),
    {ok, Socket, _} = testkit:register(Port, "n1", 1001),
    {ok, Pid} = portmapper_watch:start_link(#{host => "127.0.0.1", port => Port}),
    ?assertEqual({0, {lost, unanswered}}, told(Pid)),
    ok = portmapper_watch:stop(Pid),
    ?assertEqual({ok, 1001}, testkit:lookup(Port, "n1")),
    ok = gen_tcp:close(Socket),
    c_epmd:stop(Epmd).

a_lying_port_mapper_is_not_believed(_Config) ->
    Begin = <<9:16, "B", 0:64>>,
    End = <<9:16, "E", 7:64>>,
    Node = <<9:16, "N", 4:32, 1:16, 77, "n">>,
    Whole = [Begin, Node, End],
    [
        begin
            {Liar, Port} = liar:start(Lie),
            Options = #{host => {127, 0, 0, 1}, port => Port, timeout => time_out(Expected)},
            {ok, Pid} = portmapper_watch:start_link(Options),
            %% It is tried again, and told once.
            ?assertEqual({0, {lost, Expected}}, told(Pid)),
            ok = portmapper_watch:stop(Pid),
            liar:stop(Liar)
        end
     || {Expected, Lie} <- [
            {timeout, fun(_Socket) -> timer:sleep(infinity) end},
            {timeout, fun(Socket) -> liar:slowly(Socket, [Begin, lists:duplicate(1000, Node)]) end},
            {unanswered, fun(_Socket) -> ok end},
            {bad_message, fun(Socket) -> liar:sends(Socket, "HTTP/1.1 400 Bad Request\r\n\r\n") end},
            {bad_message, fun(Socket) -> liar:sends(Socket, Node) end},
            {bad_message, fun(Socket) -> liar:sends(Socket, [Begin, <<9:16, "N", 4:32, 1:16, 77, 255>>]) end},
            {bad_message, fun(Socket) -> liar:sends(Socket, [Begin, <<0:16>>]) end},
            {bad_message, fun(Socket) -> liar:sends(Socket, <<65535:16, "B">>) end},
            {too_long, fun(Socket) ->
                Long = binary:copy(<<"n">>, 1000),
                ok = gen_tcp:send(Socket, Begin),
                liar:endlessly(Socket, binary:copy(<<1008:16, "N", 4:32, 1:16, 77, Long/binary>>, 100))
            end}
        ]
    ],
    %% What it said before stays said.
    {Liar, Port} = liar:start(fun(Socket) -> liar:sends(Socket, [Whole, <<3:16, "Xyz">>, Node]) end),
    {ok, Pid} = portmapper_watch:start_link(#{host => {127, 0, 0, 1}, port => Port}),
    ?assertMatch({7, {nodes, [#{name := <<"n">>, creation := 4}], 0}}, told(Pid)),
    ?assertEqual({0, {lost, bad_message}}, told(Pid)),
    ok = portmapper_watch:stop(Pid),
    liar:stop(Liar).

%% Who is to be found out in another way has the time for it.
time_out(timeout) -> 500;
time_out(_) -> 30_000.

a_slow_process_is_told_no_more_than_it_can_take(_Config) ->
    Up = <<17:16, "U", 8:64, 4:32, 1:16, 77, "n">>,
    {Liar, Port} = liar:start(fun(Socket) ->
        ok = gen_tcp:send(Socket, [<<9:16, "B", 0:64>>, <<9:16, "E", 7:64>>]),
        liar:endlessly(Socket, binary:copy(Up, 1000))
    end),
    {ok, Pid} = portmapper_watch:start_link(#{host => {127, 0, 0, 1}, port => Port}),
    Length = fun() -> element(2, process_info(self(), message_queue_len)) end,
    testkit:wait_until(fun() -> Length() >= 10_000 end),
    %% It sleeps, and has read no more than it was about to.
    testkit:wait_until(fun() ->
        process_info(Pid, [status, message_queue_len]) =:= [{status, waiting}, {message_queue_len, 0}]
    end),
    ?assert(Length() =< 10_100),
    [told(Pid) || _ <- lists:seq(1, 5_000)],
    testkit:wait_until(fun() -> Length() >= 10_000 end),
    ok = portmapper_watch:stop(Pid),
    liar:stop(Liar),
    ?assertEqual([], messages()).

a_watch_ends_with_its_process(_Config) ->
    Port = own_vm:start(),
    Self = self(),
    Owner = spawn(fun() ->
        {ok, Pid} = portmapper_watch:start_link(#{host => "127.0.0.1", port => Port}),
        {0, {nodes, [], 0}} = told(Pid),
        Self ! {watched_by, Pid}
    end),
    receive
        {watched_by, Pid} -> testkit:wait_until(fun() -> not is_process_alive(Pid) end)
    end,
    ?assertNot(is_process_alive(Owner)),
    testkit:wait_until(fun() -> maps:get(open_connections, portmapper:info()) =:= 0 end).

a_network_that_is_gone_is_noticed_within_seconds(_Config) ->
    linked_hosts:available() orelse
        throw({skip, "no network namespaces here (not root, or no unshare, nsenter and ip)"}),
    Port = 4400,
    {Near, Far} = linked_hosts:start_linked(Port),
    Config = [{portmapper, [{port, Port}, {watch_remote, true}]}],
    ok = testkit:call(Near, application, set_env, [Config]),
    ok = testkit:call(Near, application, start, [portmapper]),
    Options = #{host => "10.99.0.1", port => Port, timeout => 1000},
    true = is_pid(testkit:call(Far, ?MODULE, watch, [Options])),
    ok = await_told(Far, [{nodes, [], 0}]),
    %% It is told nothing that has to be acknowledged, so this is seen by nobody.
    ok = linked_hosts:sh(Near, "ip link set near down"),
    ok = testkit:wait_until(fun() -> length(testkit:call(Far, ?MODULE, told, [])) =:= 2 end, 15_000),
    ok = await_told(Far, [{nodes, [], 0}, {lost, etimedout}]),
    {ok, _} = testkit:call(Near, portmapper, register, [n1, 1]),
    ok = linked_hosts:sh(Near, "ip link set near up"),
    ok = testkit:wait_until(fun() -> length(testkit:call(Far, ?MODULE, told, [])) =:= 3 end, 15_000),
    ?assertMatch([_, _, {nodes, [#{name := <<"n1">>}], 0}], testkit:call(Far, ?MODULE, told, [])).

await_told(VM, Events) ->
    testkit:wait_until(fun() -> testkit:call(VM, ?MODULE, told, []) =:= Events end).

%% @doc Has a process watch which keeps what it is told.
-spec watch(portmapper_watch:options()) -> pid().
watch(Options) ->
    spawn(fun() ->
        true = register(?MODULE, self()),
        {ok, Pid} = portmapper_watch:start_link(Options),
        keep(Pid, [])
    end).

keep(Pid, Told) ->
    receive
        {portmapper_watch, Pid, _Sequence, Event} ->
            keep(Pid, [Event | Told]);
        {From, told} ->
            From ! {?MODULE, lists:reverse(Told)},
            keep(Pid, Told)
    end.

%% @doc All events so far.
-spec told() -> [portmapper_watch:event()].
told() ->
    ?MODULE ! {self(), told},
    receive
        {?MODULE, Events} -> Events
    end.

%% It tells all nodes each time, so that it seems to be honest.
a_liar_is_asked_less_and_less(_Config) ->
    Asked = counters:new(1, []),
    {Liar, Port} = liar:start(fun(Socket) ->
        ok = counters:add(Asked, 1, 1),
        liar:sends(Socket, [all_nodes(), <<3:16, "A??">>])
    end),
    {ok, Pid} = portmapper_watch:start_link(#{host => {127, 0, 0, 1}, port => Port}),
    ok = timer:sleep(2000),
    ok = portmapper_watch:stop(Pid),
    liar:stop(Liar),
    Times = counters:get(Asked, 1),
    %% After 0 to 100 ms, 100 to 200, 200 to 400 and so on.
    ?assert(Times >= 4 andalso Times =< 7).

a_liar_that_repeats_itself_is_heard_less_and_less(_Config) ->
    {Liar, Port} = liar:start(fun(Socket) -> liar:endlessly(Socket, all_nodes()) end),
    {ok, Pid} = portmapper_watch:start_link(#{host => {127, 0, 0, 1}, port => Port}),
    ok = timer:sleep(2000),
    Times = length([nodes || {portmapper_watch, _, 7, {nodes, _, 0}} <- messages()]),
    ok = portmapper_watch:stop(Pid),
    liar:stop(Liar),
    ?assert(Times >= 4 andalso Times =< 8).

%% More than is read at once.
all_nodes() ->
    Node = <<9:16, "N", 4:32, 1:16, 77, "n">>,
    [<<9:16, "B", 0:64>>, lists:duplicate(1000, Node), <<9:16, "E", 7:64>>].

told(Pid) ->
    receive
        {portmapper_watch, Pid, Sequence, Event} -> {Sequence, Event}
    after 10_000 -> error({not_told, messages()})
    end.

messages() ->
    element(2, process_info(self(), messages)).

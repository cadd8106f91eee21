%% Nodes and clients of a port mapper that something happens to.
-module(load).

-include_lib("stdlib/include/assert.hrl").

-export([during/3]).

%% @doc Runs the fun while nodes are registered and clients look them up: none of
%% them notices anything, and the registrations are the same afterwards.
-spec during(testkit:vm(), inet:port_number(), fun(() -> term())) -> ok.
during(VM, Port, Fun) ->
    Names = ["node" ++ integer_to_list(I) || I <- lists:seq(1, 200)],
    Held = [testkit:register(Port, Name, 1000 + I) || {I, Name} <- lists:enumerate(Names)],
    Nodes = testkit:start_nodes(["a", "b"], Port),
    Ports = maps:from_list([{Name, testkit:lookup(Port, Name)} || Name <- ["a", "b" | Names]]),
    Before = registrations(VM, Ports),
    Answers = Ports#{"nobody" => not_found},
    Clients = [spawn_link(fun() -> client(Port, Answers) end) || _ <- [1, 2, 3]],
    Fun(),
    Figures = [stop_client(Client) || Client <- Clients],
    ct:pal("lookups and the slowest in microseconds: ~w", [Figures]),
    ?assertEqual(Before, registrations(VM, Ports)),
    [?assertEqual({error, timeout}, gen_tcp:recv(Socket, 0, 0)) || {ok, Socket, _} <- Held],
    ?assertEqual(pong, testkit:call(hd(Nodes), net_adm, ping, ['b@127.0.0.1'])),
    [ok = gen_tcp:close(Socket) || {ok, Socket, _} <- Held],
    lists:foreach(fun testkit:stop/1, Nodes).

registrations(VM, Ports) ->
    testkit:call(VM, lists, map, [fun portmapper:lookup/1, maps:keys(Ports)]).

%% Looks up until it is told to stop. Fails, and the test with it, when an
%% answer is wrong or none comes.
client(Port, Answers) ->
    client(Port, Answers, maps:next(maps:iterator(Answers)), 0, 0).

client(Port, Answers, none, Count, Slowest) ->
    client(Port, Answers, maps:next(maps:iterator(Answers)), Count, Slowest);
client(Port, Answers, {Name, Answer, Next}, Count, Slowest) ->
    {Microseconds, Given} = timer:tc(testkit, lookup, [Port, Name]),
    ?assertEqual({Name, Answer}, {Name, Given}),
    receive
        {stop, From} -> From ! {self(), {Count + 1, max(Slowest, Microseconds)}}
    after 0 ->
        client(Port, Answers, maps:next(Next), Count + 1, max(Slowest, Microseconds))
    end.

stop_client(Client) ->
    Client ! {stop, self()},
    receive
        {Client, Figures} -> Figures
    end.

"""Plots about friends, school, streets and journeys."""

from __future__ import annotations

from storyteller.data.bundled.story_templates import TemplateFiller
from storyteller.data.bundled.word_banks import rows


def friend_moves(t: TemplateFiller) -> None:
    """A friend moves away; the friendship finds a new way."""
    t.child("h")
    t.child("f")
    t.row(
        "g",
        rows(
            """
            game; keep; later
            built towers; a wooden block; a tower of their own, each block glued to the next, one from {h} and one from {f}
            looked for shells; half of a round shell; the two halves fit together again, without a crack
            played pirates; a piece of the treasure map; they put the two pieces of the map together and dug up the box of marbles they had hidden
            raced snails; an empty snail shell; they held the longest snail race in the world
            played ball against the garage; a {@color} ball; the ball bounced between them as if no time had passed
            sang songs; a little tin whistle; they sang all their songs in a row, even the silly ones
            collected stamps; a stamp with a [parrot|train] on it; they filled a whole book with the stamps from their letters
            """
        ),
    )
    t.begin(
        "[had a best friend named {f}|lived next door to {h.his} best friend, {f}|did everything with {h.his} best "
        "friend, {f}]",
        "{h} and {f} lived in the same street, and every day they {g.game}.",
        home="in a house with a {@color} door|in a little town|on a quiet street|in a busy city",
    )
    t.go_on(
        "Every day after [lunch|school] they {g.game}.",
        "Together they {g.game}, [rain or shine|until it got dark].",
    )
    t.say(
        '{@day}, {f} came over and did not smile. "We are moving," {f.he} said. "To a town far away. My {mom} '
        "has a new job.\" {h} thought that it was a joke. But the next week a big truck stood in front of {f}'s "
        "house.",
        '{@day}, {h} saw boxes in the window of {f}\'s house. "What are the boxes for?" {h.he} asked. {f} looked '
        'at the ground. "We have to move," {f} said. "On Saturday."',
    )
    t.aside(
        "{h} felt as if somebody had [turned off the sun|taken the floor away].",
        '"Who will play with me now?" asked {h}.',
        '"You can\'t!" {@cried} {h}. "You are my best friend!"',
    )
    t.say(
        'On the last day they did not know what to say. Then {f} reached into {f.his} pocket. "This is for you," '
        '{f} said. It was {g.keep}. "[Keep it till I come back|When you look at it, I will be thinking of you]." '
        "The truck drove away, and {h} waved until it was as small as an ant.",
        "{h} wanted to [hide|be angry], but then {h.he} had an idea. {h.he} gave {f} {g.keep}. \"So you don't "
        'forget me," {h.he} said. {f} hugged {h.him}. The truck [rumbled|rolled] down the road and was gone.',
    )
    t.say(
        "The days were long and [gray|quiet]. {h} {@looked} at the empty house. {@day}, a letter came. There was a "
        "drawing in it, and a [funny|long] story, and [forty|a hundred] kisses. {h} sat down at once and wrote "
        "back.",
        'At first {h} [did not want to play|cried every evening]. "Why don\'t you write?" said {h.his} {dad}. {h} '
        "could not write many words yet, so {h.he} drew. {h.he} drew [the cat, the street, and the rain|everything "
        "that happened]. A week later an envelope came back, fat with pictures.",
    )
    t.say(
        "In summer a [bus|train|car] stopped, and out jumped {f}, taller and [brown from the sun|with a tooth "
        "missing]. They looked at each other and began to laugh. And that week {g.later}."
        if t.slots["g"] != "built towers"
        else "In summer a [bus|train|car] stopped, and out jumped {f}, [a head taller|with a tooth missing]. That "
        "week they built {g.later}.",
        "A new family moved into the house, with a {@little} {f.kind} who looked lonely. {h} knew how that felt. "
        '{h.he} took a deep breath and went over. "Hello," {h.he} said. "Do you want to play?" That night '
        '{h.he} wrote to {f}, "Now we are three."',
        "And so they wrote, all through the [fall|winter]. Far away was not so far after all. It was only as far "
        "as the mailbox.",
    )


def shy_child(t: TemplateFiller) -> None:
    """A new child at school does not speak, until somebody finds the door in the wall."""
    t.child("h")
    t.child("f")
    t.neighbor("n")
    t.row(
        "l",
        rows(
            """
            love; sign; say; show
            birds; a tiny bird drawn in the corner of {f.his} book; "Is that a robin?"; {f} could whistle like five kinds of birds
            trains; a small toy train sticking out of {f.his} pocket; "Is that a steam train?"; {f} knew the sound of every train and could do them all
            horses; a horse on {f.his} pencil box; "Do you like horses?"; {f} told them how {f.his} grandpa's horse once ate a hat
            stars; silver stars on {f.his} bag; "Can you find the Big Bear?"; {f} knew the names of all the bright stars
            dogs; some dog hair on {f.his} sleeve; "Do you have a dog?"; {f} brought {f.his} dog to the school gate, and it shook hands with everyone
            paper folding; a little paper crane on {f.his} desk; "Did you make that?"; {f} taught them all to fold cranes, and the room was full of paper birds
            bugs; a ladybug on {f.his} finger; "How many dots does it have?"; {f} showed them a whole city of beetles under one stone
            """
        ),
    )
    t.begin(
        "[liked to talk to everyone|had many friends at school|sat next to an empty chair at school]",
        "The chair next to {h} had been empty since [summer|winter|spring]. {h} did not like to sit beside an "
        "empty chair.",
    )
    t.say(
        'One Monday morning, {n} brought a new {f.kind} into the class. "This is {f}," said {n}. {f} looked at '
        "{f.his} shoes. At [recess|lunch] {f.he} stood [by the fence|under the tree] all alone.",
        "{@day}, a {f.kind} named {f} came to {h}'s school. {f.he} sat down in the last row and did not look up. "
        "When somebody said hello, {f} turned [red|pink] and said nothing.",
    )
    t.aside(
        '"[{^f.he} is rude|{^f.he} does not like us]," said one child. {h} was not so sure.',
        "The others soon forgot {f.him}. But {h} did not.",
        "Some children [laughed|whispered]. {h} remembered {h.his} own first day, and how {h.his} tummy had hurt.",
    )
    t.say(
        '{h} went over and said, "Do you want to play [tag|ball]?" {f} shook {f.his} head. The next day {h} '
        'offered {f.him} half of {h.his} [apple|sandwich]. {f} only whispered, "No, thank you." {h} did not know '
        "what to do.",
        '{h} tried a joke. {f} did not laugh. {h} tried [a funny face|a magic trick]. {f} looked away. "[Give '
        '{f.him} time|Some doors open slowly]," {n} told {h}.',
    )
    t.say(
        "Then {h} saw {l.sign}. {h.he} sat down, not too close. {l.say} asked {h}. {f} looked up. {f.his} eyes "
        "began to shine. And then, as if someone had turned on a tap, {f} began to talk about {l.love}. {f.he} "
        "talked [until the bell rang|all through lunch].",
        'The next day {h} noticed {l.sign}. {l.say} {h} asked. For the first time {f} smiled. "You like {l.love} '
        'too?" {f} asked. "I don\'t know much about that," said {h}. "Will you tell me?"',
    )
    t.say(
        "{l.show}. [Soon everybody wanted to sit with {f}|The whole class stood around {f} and listened], and "
        "nobody ever called {f.him} rude again.",
        "By the end of the week, {f} was not shy any more, at least not with {h}. {l.show}.",
        "A few weeks later there was another new child at the gate, looking very small. It was {f} who went over "
        'first. "Hello," {f.he} said. "[I was new too|Do not be scared]. This is my friend {h}."',
    )
    t.go_on(
        "",
        "",
        "{h} looked on and felt {@glad}.",
        '"[Some doors open slowly|Quiet people have a lot to say]," thought {h}.',
    )


def race(t: TemplateFiller) -> None:
    """A race is lost, or given up for something better, or won slowly."""
    people = t.chance(0.5)
    if people:
        t.child("h")
        t.child("f")
        t.let(prize="[gold cup|silver medal|big blue ribbon|chocolate bear]", runner="runner")
    else:
        kinds = rows(
            """
            kind; look; home; food; went
            bunny; long, velvety ears; under a hill; clover; hopped
            fox; a bushy tail; in a den; plums; trotted
            fawn; thin, quick legs; in the forest; grass; trotted
            pony; a long mane; on a green hill; hay; galloped
            puppy; big paws; on a farm; biscuits; bounded
            squirrel; quick feet; in a hollow tree; nuts; scampered
            """
        )
        t.animal("h", kinds)
        t.animal("f", kinds)
        t.let(prize="[basket of apples|wreath of flowers|golden acorn|silver bell]", runner="animal")
    t.begin(
        "[loved to run|ran everywhere, even up the stairs|wanted to be the fastest of all]"
        if people
        else "[loved to run|ran wherever {h.he} went|wanted to be the fastest of all]",
        '"Tomorrow is the big race!" said {h}. {h.he} was a {h.kind} who loved to run.',
    )
    t.say(
        "Every [spring|summer|fall] there was a race around the [lake|hill|old mill]. The prize was a {prize}. {h} "
        '[practiced|trained] every morning. So did {f}. "I will win," said {h}. "We will see," said {f}.',
        "{@day}, there was a big race. The winner would get a {prize}. {f} was [fast|quick] too, and last year "
        "{f.he} had won. {h} wanted the {prize} so much that {h.he} could not sleep.",
    )
    t.go_on(
        '"On your marks, get set, go!" Off they went.',
        "The flag went down, and they were off!",
    )
    end = t.one_of(("help", "tumble", "lose"))
    if end == "help":
        t.say(
            "{h} ran like the wind. {h.he} passed one {runner} after another. Soon only {f} was in front. Then, at "
            "the [bend|ditch|bridge], {f} tripped and fell with a cry. {f.he} held {f.his} [ankle|knee]. The way "
            "to the {prize} was free!",
            "They ran side by side, past the [bushes|fence|wall] and over the stream. {f} looked at {h} and did "
            "not see the root. Down {f.he} went. {h} ran on, five steps, ten steps. {h.he} could hear {f} crying.",
        )
        t.say(
            '{h} looked at the finish line. {h.he} looked back. Then {h.he} stopped and turned around. "Lean on '
            'me," {h.he} said. The others ran past them, but {h} did not care. Slowly they [limped|walked] the '
            "last part together, and they were the very last to come in.",
        )
        t.say(
            'And what was that sound? Everyone was clapping, louder than for the winner. "You lost because of '
            'me," said {f}. "I [lost a race|did not win a {prize}]," said {h}, "but I won a friend."',
            'The winner came over with the {prize}. "This should be yours," the winner said. {h} shook {h.his} '
            "head. But {f} never forgot it, and the next year they crossed the line at the same time, laughing all "
            "the way.",
        )
    elif end == "tumble":
        t.say(
            "{f} was so far in front that {f.he} began to [wave to the crowd|look at {f.himself} in the puddles]. "
            '"I have time for a [snack|rest]," {f} thought, and {f.he} sat down [behind a bush|under a tree] for '
            "one minute. It was warm. {f.his} eyes fell shut.",
            "{f} ran so fast that {f.he} did not look at the signs. At the [big oak|old bridge] {f} turned left, "
            "but the right way was to the right. {h} was far behind. {h.his} legs hurt. But {h.he} looked at every "
            "sign and did not stop.",
        )
        t.say(
            '"One more step, and one more," {h} said to {h.himself}. {h.he} did not run fast, but {h.he} ran on '
            "and on. {h.he} came around the last bend, and nobody was in front of {h.him}! {h} ran through the "
            "ribbon with {h.his} arms in the air."
            if people
            else '"One more step, and one more," {h} said to {h.himself}. {h.he} did not run fast, but {h.he} '
            "ran on and on. {h.he} came around the last bend, and nobody was in front of {h.him}! {h} tore "
            "through the ribbon with {h.his} nose in the air.",
        )
        t.say(
            'When {f} came at last, {h} already had the {prize}. "How did you do it?" asked {f}. "I just kept '
            'going," said {h}.',
            '"But I am faster!" {@cried} {f}. "Yes, you are," said {h}. "I was only steady." Then {f} had to '
            "laugh, and {f.he} bowed to {h}.",
        )
    else:
        t.say(
            "{h} ran and ran. {h.his} [chest|side] hurt, and {h.his} legs felt like [stones|butter]. {f} was "
            "faster, and two others were faster too. {h} came in fourth. There was no prize for number four.",
            "{h} began much too fast. Halfway around, {h.he} had no breath left. One after the other they passed "
            "{h.him}. When {h} came to the end, {f} was already holding the {prize}.",
        )
        t.say(
            '{h} felt {@sad} and wanted to go home. "It is not fair," {h.he} said and kicked a stone. Then '
            "{h.he} saw {f} standing alone with the {prize}. Nobody had said a kind word. {h} swallowed hard and "
            'walked over. "You ran very well," {h.he} said.',
            '{h.his} eyes were full of tears. {h.his} {mom} put an arm around {h.him}. "Did you run as well as '
            'you could?" she asked. {h} thought about it. "Yes," {h.he} said. "Then hold up your head," she '
            'said, "and go and say something nice to {f}." So {h} did.',
        )
        t.say(
            '"{@thanks}," said {f}, surprised. "Do you want to train with me?" From that day they ran together '
            "every morning. And the next time, {h} came in second, just one nose behind {h.his} friend.",
            '{f} {@smiled}. "You start too fast," {f} said. "I can show you." All year they practiced, and '
            "when the next race came, nobody could say who was first.",
        )


def promise(t: TemplateFiller) -> None:
    """A promise is forgotten and has to be made good."""
    t.child("h")
    t.neighbor("n")
    t.row(
        "p",
        rows(
            """
            task; must; result; better
            water {n}'s flowers; water the flowers; The flowers hung their heads, and their leaves were brown; Day after day {h.he} watered them, morning and evening, and on the fifth day two buds opened
            feed {n}'s rabbit; feed the rabbit; The rabbit had escaped through a hole to look for food; {h} walked through every garden on the street with a carrot until two long ears came out of the cabbage
            help {n} carry wood; help carry the wood; The wood lay in the rain, and {n} had to sit in a cold room; {h} carried every log inside, dried them by the stove, and made a neat pile
            bring {n} some soup; bring the soup; {n} was in bed with a cold and had eaten only dry bread; {h} brought the soup hot, with two rolls, and stayed to wash the bowl
            walk {n}'s old dog; walk the dog; The old dog was waiting at the gate with its leash in its mouth; {h} took the dog all the way to the river, and let it smell every single tree
            return {n}'s book; return the book; {n} had wanted to read it to the children at the library, who had to go home without a story; {h} went to every one of those children and asked them to come again, and {h} held the book while {n} read
            pick up {n}'s apples; pick up the apples; The apples had been eaten by wasps, and {n} had none for the winter; {h} climbed the tree, picked the last good ones from the top, and filled a whole box
            """
        ),
    )
    t.let(
        fun="[a puppet show|a circus tent|a new slide in the park|an ice cream truck|a soccer game|a parade with "
        "drums|children with a big ball]"
    )
    t.begin(
        "[always said yes|liked to be helpful|had many plans and a short memory]",
        '"I promise!" said {h}. {h.he} was a {h.kind} who made promises quickly.',
        trait="friendly|cheerful|lively|sweet|funny|busy",
    )
    t.say(
        '{@day}, {h.his} neighbor {n} asked for help. "Could you {p.must} tomorrow?"' + ""
        " "
        "{n} "
        "said. "
        '"I '
        "would "
        "be "
        "so "
        'glad." '
        '"Yes, '
        "I "
        'promise!" '
        "said "
        "{h}.",
        '{h.his} neighbor was called {n}. "Will you {p.must} for me on Saturday?" {n} asked. "Of course," said '
        '{h}. "I promise. [You can count on me|I never forget anything]."',
    )
    t.say(
        "The next day {h} was on {h.his} way. But then {h.he} saw {fun}! {h} [stopped for a minute|only wanted one "
        "look]. One minute became ten, and ten became the whole afternoon. {h} [laughed and cheered|had so much "
        "fun] and did not think of {n} once.",
        "But when the day came, there was {fun}. {h} forgot [everything else|the whole world]. {h.he} came home "
        "when the street lights were on, [happy and tired|humming a tune], and went straight to bed.",
    )
    t.say(
        "In the night {h} sat up. {n}! {h.he} had promised! Early in the morning {h.he} ran over. {p.result}. {n} "
        'did not scold. {n.he} only said, "I waited for you." That was worse than scolding.',
        'At breakfast {h.his} {mom} asked, "How was it at {n}\'s house?" The spoon stopped in the air. {h} turned '
        "[red|white], jumped up, and ran. {p.result}. {h} felt {@sad}.",
    )
    t.go_on(
        '"I am so sorry," said {h}. "I forgot. May I make it good?"',
        '"I broke my promise," {h} said. "Please let me try again."',
    )
    t.say(
        '{p.better}. {n} could smile again. "Now you have kept it," {n.he} said, "a little late, but with your '
        'whole heart."',
        '{p.better}. It took a long time, and {h} did not once look at the clock. "{@thanks}," said {n}.',
    )
    t.aside(
        "After that, when {h} promised something, {h.he} tied a [string|{@color} thread] around {h.his} finger. "
        "Some days {h} wore five.",
        'Since then {h} says, "I promise," more slowly. And {h.he} says it only when {h.he} means it.',
        "",
    )


def errand(t: TemplateFiller) -> None:
    """Sent to the shop for three things, the hero says them over and over, and they change on the way."""
    t.child("h")
    t.row(
        "e",
        rows(
            """
            right; wrong; dish; sorry
            a pound of butter; a round of gutter; pancakes; the man at the hardware store laughed
            ten brown eggs; ten wooden legs; an omelet; the carpenter looked puzzled
            a bag of rice; a bag of mice; rice pudding; the woman in the pet shop blinked twice
            two fresh pears; two red chairs; a pear tart; the woman in the furniture shop showed her teeth in a smile
            a loaf of bread; a coat of red; toast; the tailor put down the needle
            a can of peas; a can of bees; pea soup; the beekeeper put down the net
            a jar of honey; a jar of money; honey cake; the woman in the bank laughed behind her glass
            three fat plums; three fat drums; plum cake; the man in the music shop clapped his hands
            one white goat cheese; one light coat, please; cheese pie; the woman in the clothes shop held up nine coats
            """
        ),
    )
    t.let(
        extra="[a puddle|a snail on a wall|a parrot in a window|two men with a piano|a dog in a hat|a hole in the road]"
    )
    t.begin(
        "[wanted to go to the shop alone|liked to run errands|was big enough, at last, to go shopping alone]",
        '"I am big enough to go alone," said {h}. {h.he} was {@years} years old.',
        home="in a little town|on a quiet street|in a busy city|above a flower shop|in a village with one street",
    )
    t.say(
        '{@day}, {h.his} {mom} wanted to make {e.dish}. "I need {e.right}," she said. "Can you remember that?" '
        '"Easy!" said {h}. {h.he} [took|got] a coin and a basket and set off. "{^e.right}, {e.right}," {h.he} '
        "said to {h.himself} at every step.",
        '{@day}, {h.his} {dad} tied on an apron. "We will have {e.dish} today," he said, "but I have no more of '
        'one thing. Please buy {e.right}." {h} said it over and over, so as not to forget. "{^e.right}, '
        '{e.right}."',
    )
    t.say(
        "On the corner {h} saw {extra}, and {h.he} had to stop and look. When {h.he} went on, {h.he} was not so "
        'sure. "{^e.wrong}, {e.wrong}," {h.he} said. It sounded [almost right|a bit odd, but good].',
        "Then there was {extra}. {h} jumped to one side, tripped, and got up again. What was it? Oh, yes! "
        '"{^e.wrong}, {e.wrong}," {h.he} sang, and marched on.',
    )
    t.say(
        '{h} went into a shop and put down the coin. "Please, I want {e.wrong}," {h.he} said. It was very still, '
        'and then {e.sorry}. "Are you sure?" {h} heard. "What is it for?" "For {e.dish}," said {h}.',
        '"{^e.wrong}, please!" {h} said in the first shop. Everyone turned around, and {e.sorry}. {h} felt '
        '{h.his} ears get hot. "We need it to make {e.dish}," {h.he} said in a small voice.',
    )
    t.say(
        '"For {e.dish}," came the answer, "I think you want {e.right}." "That is it!" {@cried} {h}. {h.he} '
        "was shown the way to the grocer, got the right thing, and ran home as fast as {h.he} could.",
        'Then somebody kind said, "Think of the taste. What makes {e.dish}?" {h} closed {h.his} eyes and thought '
        'of the kitchen. "{^e.right}!" {h.he} shouted. The grocer next door had just that.',
    )
    t.say(
        "Everyone liked the {e.dish}. And when {h} told the story, they all laughed so much that they nearly "
        "forgot to eat.",
        'At the table {h} told everything. "Next time I will write it down," said {h.his} {dad}. "No," said '
        '{h}, "next time I will draw it."',
        '"What took you so long?" they asked at home. "Well," said {h}, "have you ever tried to buy {e.wrong}?"',
    )


def train_ride(t: TemplateFiller) -> None:
    """A long ride on a train, a stranger, and something left behind."""
    t.child("h")
    t.parent("p")
    t.let(dest="[the sea|the mountains|the big city|{h.his} grandma's farm|{h.his} cousins' house|the lake]")
    t.row(
        "x",
        rows(
            """
            thing; contents
            brown bag; ten pairs of baby socks
            old suitcase; a set of tiny puppets
            green umbrella; a handle shaped like a duck
            hat box; a fine hat with cherries on it
            violin case; a shiny violin
            bird cage; a little yellow bird
            """
        ),
    )
    t.neighbor("n")
    t.begin(
        "[had never been on a train|loved trains|wanted to ride on a real train]",
        '"How many more days?" asked {h}. There was going to be a train ride, {h.his} very first one.',
    )
    t.say(
        "{@fine}, {h} and {h.his} {p} took the train to {dest}. {h} sat by the window. Clickety-clack, "
        "clickety-clack. [Cows|Farms|Bridges] and [ponds|fields|barns] flew past. Across from them sat {n}, an old "
        "{n.kind} with a {x}.",
        "At last the day came. {h} and {h.his} {p} were going to {dest}. The seats were {@color} and soft. "
        "Clickety-clack, sang the wheels. Next to {h} sat {n}, an old {n.kind} who held a {x} on {n.his} knees.",
    )
    t.aside(
        '"What is in there?" {h} asked. "Something for my grandchild," said {n}, and {n.he} let {h} look.',
        "{n} gave {h} a [peppermint|slice of pear] and told {h.him} [the names of the hills|how trains were when "
        "{n.he} was small].",
        "They played a game. Who saw the first [horse|red car|windmill]? {n} won twice, and {h} won [five times|once].",
    )
    t.say(
        'The train stopped at a small station, and {n} got off. "Good-bye, {h}!" The train was about to go on '
        "when {h} saw the {x} on the seat. {n} had forgotten it! Outside, {n} was walking away down the platform.",
        "{n} fell asleep and woke up just in time for the stop. {n.he} waved and hurried out. Then {h} looked "
        'down. There was the {x}! "{@ohno}!" {h.he} {@cried}. "{n} left it behind!"',
    )
    if t.chance(0.5):
        t.say(
            '{h} pulled down the window and shouted with all {h.his} might. "{n}! Wait!" {n} turned around. '
            "{h}'s {p} lifted the {x} through the window, right into {n}'s arms. [The whistle blew|The wheels "
            "began to turn]. It was just in time.",
            '"Run!" said {h.his} {p}. They ran to the door. {h} held up the {x} and yelled. The conductor saw '
            "it, blew a [short|sharp] whistle, and handed the {x} down to {n}. Then the train moved.",
        )
        t.say(
            '{n} ran along for a bit and threw a kiss. "You saved the day!" {n.he} called. All the way to '
            "{dest}, the wheels sang a new song. Good-for-you, good-for-you, good-for-you.",
            'The last thing {h} saw was {n}, waving and waving, as small as a doll. <"I like trains," said {h}. '
            '"Things happen on them."> And {dest} was still to come.',
        )
    else:
        t.say(
            'But the train was moving already. {h} [began to cry|looked at {h.his} {p}]. "We can give it to the '
            'conductor," {p.he} said. The conductor was very tall and had a {@color} cap. {h} told the whole '
            'story. "Leave it to me," said the conductor. At the next station the {x} went into another train, '
            "going back.",
            'The doors closed. Too late! "Look, there is a label," said {h.his} {p}. It had {n}\'s name and '
            "street on it. At {dest} they [took it to the post office|sent it off with a letter], and {h} drew a "
            "train on the paper.",
        )
        t.say(
            "When {h} came home, there was a package. Inside was {h.his} [very own train whistle|own small "
            'conductor\'s cap], and a card. "For an honest {h.kind}," it said. "From {n} and one happy '
            'grandchild."',
            'A week later a card came. It showed {n} with a baby on one arm, and the {x} beside them. "[It got '
            'here before I did|It came home safe and sound]," it said. "{@thanks}!"',
        )


def first_day(t: TemplateFiller) -> None:
    """The first day of school is frightening; the teacher, or somebody smaller, is frightened too."""
    people = t.chance(0.7)
    if people:
        t.child("h")
        t.child("f")
    else:
        table = rows(
            """
            kind; look; home; food; went
            mouse; big pink ears; in a teapot behind the stove; cheese; scurried
            hedgehog; a back full of prickles; under a heap of leaves; pears; shuffled
            bear cub; thick, brown fur; in a warm cave; honey; padded
            duckling; fluffy yellow feathers; by a pond; pondweed; waddled
            bunny; floppy ears; in a burrow; clover; hopped
            """
        )
        t.animal("h", table)
        t.animal("f", table)
    if people:
        t.neighbor("n")
    else:
        t.add(
            "n", *t.one_of((("Mrs. Owl", "owl", "she"), ("Mr. Heron", "heron", "he"), ("Miss Crane", "crane", "she")))
        )
    t.let(
        charm="[smooth stone|shell|{@color} button|little wooden fish|acorn|lucky penny]",
        thing="[bag|lunch box|cap|pencil case]",
    )
    t.slots["paw"] = "hand" if people else "paw"
    t.begin(
        "[was going to school for the first time|did not want to go to school|had a new {@color} {thing} for school]",
        '"My tummy hurts," said {h}. It was the first day of school.',
    )
    t.say(
        '"What if I [get lost|can\'t find the bathroom]? What if nobody likes me?" {h} asked {h.his} {mom} on the '
        'first morning. She put a {charm} into {h.his} pocket. "When you are scared, hold it tight," she said, '
        '"and think of me."',
        "In the morning {h} could not eat. {h.his} {mom} walked with {h.him} as far as the gate. She gave {h.him} "
        'a {charm}. "It was with me on my first day too," she {@whispered}.',
    )
    t.say(
        "The school was [big|huge] and noisy. The teacher's name was {n}. {h} found a chair and held the {charm} so "
        "tight that {h.his} {paw} hurt. Then {h.he} heard a sniff. Under the next table sat {f}, with wet cheeks.",
        "There were so many [faces|voices]. {n}, the teacher, told everyone to find a place. The one beside {h} "
        'was empty. No, it was not. Somebody was hiding behind it. "I am not here," said the somebody. It was a '
        "{f.kind} named {f}.",
    )
    t.say(
        '{h} forgot that {h.he} was {@afraid}. "[Hello|Hi]," {h.he} said. "I am {h}. Do you want to know a '
        'secret? My tummy hurts too." {f} looked up. "Really?" {h} pulled out the {charm}. "You hold it till '
        'lunch," {h.he} said, "and then it is my turn."',
        '"Is it your first day?" asked {h}. {f} nodded. {h} thought for a moment. Then {h.he} took out the '
        '{charm} and put it on the table between them. "It works for two," {h.he} said. Slowly {f} came out and '
        "sat down.",
    )
    t.aside(
        "They [painted a whale|learned a song about a bus|counted to twenty|made a paper chain], and soon they "
        "forgot to be scared.",
        'Even {n} {@smiled}. "Shall I tell you something?" {n} said. "It is my first day too, and I have a '
        'stone in my pocket."',
        "At lunch they [traded sandwiches|swapped a plum for a cookie]. In the afternoon they built a bridge of "
        "blocks for a [wooden bear|toy truck].",
    )
    t.say(
        'When the bell rang, {h}\'s {mom} was at the gate. "How was it?" she asked. "Can I go again tomorrow?" '
        "said {h}.",
        "On the way home {h} felt in {h.his} pocket. It was empty. {f} still had the {charm}! {h} {@smiled}. "
        "{h.he} did not need it any more, and tomorrow {h.he} would see {f} again.",
        '"I was not scared," {h} said that night. "Well, I was scared until nine o\'clock."',
    )


def stray_dog(t: TemplateFiller) -> None:
    """A dog without a home, a child who wants it, and the question whose it is."""
    t.child("h")
    t.parent("p")
    t.let(
        dog="[thin|small|shaggy|brown|spotted|black|wet]",
        name="[Lucky|Scruff|Biscuit|Shadow|Peanut|Domino|Button|Comet]",
        place="[behind the bakery|at the bus stop|under a bench|next to the school gate|under the bridge]",
    )
    t.begin(
        "[wished for a dog|wanted a dog more than anything|drew pictures of dogs all day]",
        "More than anything in the world, {h} wanted a dog. {h.he} asked for one [every day|every birthday|at "
        "every meal].",
    )
    t.say(
        "{@day}, {h} saw a {dog} dog {place}. It had [no collar|no collar and no name tag|a bit of old rope around "
        "its neck]. It looked at {h} with [sad|hungry|big, brown] eyes. {h} broke {h.his} [bun|sandwich] in half. "
        "The dog ate it in one [bite|gulp] and wagged its tail, just once.",
        'A {dog} dog sat {place}, all alone. It was shivering. "Are you [cold|hungry|lost]?" asked {h}. {h.he} '
        "gave it [a piece of cheese|the rest of {h.his} lunch]. The dog licked {h.his} fingers and followed "
        "{h.him} home.",
    )
    t.go_on(
        '"I will call you {name}," said {h}.',
        "{h} named the dog {name}, and it seemed to like that.",
    )
    t.say(
        '"Can we keep it?" {h} asked {h.his} {p}. {p.he} looked at the muddy paws and shook {p.his} head. "A '
        'dog is a lot of work," {p.he} said. "And maybe somebody is looking for it." {h} had not thought of '
        "that.",
        'At home {h.his} {p} stood in the door. "{@ohno}," {p.he} said. "No dogs, {h}. You know that." "Just '
        'for one night," {h} begged. "Look how {name} is shaking." {h.his} {p} sighed. "One night. And '
        'tomorrow we will find out where it belongs."',
    )
    t.say(
        "They washed {name} and put up [signs|posters] all over town. {h} drew the pictures. Every time the "
        "[phone|bell] rang, {h}'s heart stood still. <{h} taught {name} to give a paw.> Days went by.",
        "The next day they asked the baker, the vet, and the mailman. Nobody knew the dog. So {h} made signs that "
        'said, "Found!" {h} hung them up, but {h.he} hoped in secret that no one would read them.',
    )
    if t.chance(0.5):
        t.neighbor("n")
        t.say(
            'Then {n} came, an old {n.kind} with a cane. "Is it really you?" {n.he} said, and the dog [flew into '
            "{n.his} arms|danced around {n.him}]. {h} was {@glad} for the dog, but a big tear rolled down {h.his} "
            "nose.",
        )
        t.say(
            '"I can\'t walk very far now," said {n}. "That is how I lost my dog. Would you take it out for me, '
            'every day after school?" {h} smiled through the tears. Now {name} had two homes, and two people to '
            "love.",
            '{n} saw the tear. "My dog will have puppies in spring," {n.he} said. "And the first one shall be '
            "yours, if your {p} says yes.\" They both looked at {h}'s {p}. And {p.he} said yes.",
        )
    else:
        t.say(
            "Two weeks passed, and nobody came. One evening {h} found {h.his} {p} asleep on the sofa, with {name} "
            "asleep on {p.his} feet.",
            "But no one came. And one night there was a [smell of smoke|strange noise] in the kitchen. {name} "
            "barked and barked until everybody woke up. A towel on the stove had begun to burn. {h.his} {p} put it "
            "out just in time and knelt down to hug the dog.",
        )
        t.say(
            '"I think we know now where {name} belongs," said {h.his} {p}. {p.he} had even bought a {@color} '
            "collar. {h} was so happy that {h.he} barked.",
            '"This dog is not lost any more," {h.his} {p} said. That night {h} heard soft steps. Then the bed '
            "went down on one side, and something warm lay against {h.his} feet.",
        )


def stage_fright(t: TemplateFiller) -> None:
    """A part in the school show, lost words, and what saves the show."""
    t.child("h")
    t.child("f")
    t.row(
        "r",
        rows(
            """
            role; line; mishap
            tree; I am the oldest tree in the wood; One of {h.his} branches fell off
            moon; I shine when all the world is asleep; The paper moon slipped down over {h.his} nose
            mouse; I am small, but my heart is big; {h.his} long tail got caught in the curtain
            king; Bring me my crown and my soup; The crown rolled off and went round and round
            snowman; Please do not light a fire; The carrot fell off {h.his} nose
            lion; I roar, but I never bite; Half of the yellow mane fell off
            teapot; Mind the steam, for I am hot; The lid dropped from {h.his} head with a clang
            """
        ),
    )
    t.begin(
        "[had a part in the school show|was going to be the {r} in the school show|got to be the {r} in the class "
        "play]",
        '"I will be the {r}!" {h} told everyone. There was going to be a show at school.',
    )
    t.say(
        '{h} had just one line. It was, "{r.line}." {h.he} said it in the bath. {h.he} said it to the '
        "[cat|mirror|potatoes]. {h.his} friend {f} knew it too, because {h} said it all day long.",
        '"{r.line}." That was all {h} had to say. {h.he} practiced with {f}, who was the [cloud|sheep|drummer]. '
        '"{r.line}." It was easy [at home|in the yard].',
    )
    t.say(
        "Then the big [night|day|evening] came. {h} [looked|peeked] through the curtain and saw [a hundred|rows "
        "and rows of] faces. {h.his} knees shook. When it was {h.his} turn, {h.he} walked out into the light and "
        "opened {h.his} mouth. No word came out. <{@heart}>",
        "On the [night|evening|day] of the show, the [room|hall|school] was [full|packed|crowded]. There sat "
        "{h.his} {mom} and {dad} and the whole town. {h} stepped out on the stage. It was so [bright|hot] and so "
        "[quiet|still]. And {h.his} line was gone, as if [a bird had picked it up and flown away|someone had wiped "
        "it off|the wind had blown it away].",
    )
    t.go_on(
        "[Then things got worse|And that was not all|It got even worse]. {r.mishap}. [Somebody|A boy|A baby|A girl "
        "in the back] giggled.",
        "{r.mishap}. {h} wanted to sink through the floor.",
    )
    t.say(
        "But {f} was there. {f.he} stepped to {h.his} side, which was not in the play at all, and took {h.his} "
        'hand. "Breathe," {f} {@whispered}. "Say it to me. Only to me." {h} looked at {f} and not at the '
        'faces. "{r.line}," {h.he} said, loud and clear.',
        "{h} looked down. In the [first|front|second] row a [very small child|baby|little cousin] waved at "
        '{h.him}. {h} had to smile. And when {h.he} smiled, the words came back. "{r.line}!" {h.he} said. Then '
        '{h.he} added, "At least, I think so." Everybody {@laughed}, and it was a [warm|kind|friendly|happy], '
        "good laugh.",
    )
    t.say(
        'How they clapped! {h} bowed so low that {h.he} nearly fell over. "Were you scared?" {h.his} {dad} asked '
        'later. "Yes," said {h}. "But {f} was there."',
        "After the show they all ate [cookies|cake] behind the curtain, and {h} said {h.his} line [ten|twenty] "
        "more times, just because {h.he} could.",
        "The next year {h} had [two|three|ten] lines. {h.he} was only half as [scared|nervous].",
    )


def lost_purse(t: TemplateFiller) -> None:
    """Money is found; it could buy the very thing one wants; but it is somebody's."""
    t.child("h")
    t.neighbor("n")
    t.let(
        wish="[{@color} scooter|music box|box of forty crayons|soccer ball|toy crane|jump rope with wooden "
        "handles|model ship|toy robot]",
        purse="[brown purse|little {@color} purse|old wallet|leather pouch]",
        spot="[on the path in the park|beside the bus stop|under a bench|in front of the market|near the fountain]",
    )
    t.begin(
        "[wanted a {wish}|saved every penny for a {wish}|stopped every day at the toy shop to look at a {wish}]",
        "In the window of the toy shop stood a {wish}. Every day a {h.kind} named {h} came to look at it.",
    )
    t.go_on(
        "But it cost [too much|a lot of money], and {h} had only [three|four|six] coins.",
        "{h} had counted {h.his} coins [ten times|again and again]. They were not enough.",
    )
    t.say(
        "{@day}, {h} saw a {purse} {spot}. {h.he} picked it up and looked inside. There was [so much|such a lot "
        "of] money [in it|inside]! It was enough for the {wish}, and even for ice cream.",
        "{@day}, {h}'s foot bumped into something {spot}. It was a {purse}, and it was full. {h} looked left and "
        "right. [Nobody was there|The street was empty|There was nobody around]. Nobody had seen it.",
    )
    t.say(
        '{h} stood in front of the toy shop with the {purse} in {h.his} hand. The {wish} seemed to say, "Take me '
        'home." But then {h} thought, "Somebody is [crying|looking for this] right now." Inside the {purse} was '
        "a card with a name on it. The name was {n}.",
        '"[Finders keepers|I found it]," {h} thought. Then {h.he} saw a small photo in the {purse}. It showed '
        "{n}, who lived [at the end of the street|in the house with the green roof] and [had to count every "
        "coin|had four children to feed]. {h} closed the {purse} with a snap.",
    )
    t.say(
        "{h} ran to {n}'s house and rang the bell. When {n} saw the {purse}, {n.he} had to sit down. \"That was "
        'all the money I had for this month," {n} said. "{@thanks}! You are an honest {h.kind}."',
        '{n} was walking up and down the street with red eyes, looking at the ground. "Is this yours?" asked '
        "{h}. {n} [gave a cry|could not speak at first]. Then {n.he} hugged {h.him} so hard that {h} could not "
        "breathe.",
    )
    t.aside(
        "{n} offered {h} a coin, but {h} shook {h.his} head. <It felt better that way.>",
        '"I have no money to give you," said {n}, "but I have [warm plum cake|fresh bread and jam]." They ate '
        "it in the kitchen.",
    )
    t.say(
        "The next day {h} went to look at the {wish}. It was gone! {h} felt {@sad}. But at home there was a box at "
        "the door. {n} worked in the toy shop, and in the box was the {wish}, with a small scratch on one side. "
        '"We cannot sell it like this," said the note, "but you will not mind."',
        "It took {h} all [summer|winter] to save for the {wish}. {h.he} swept steps and carried bags. When {h.he} "
        "bought it at last, {h} could look at it with a [light heart|clear heart], and everyone who passed said "
        "hello.",
        '"You can help me in my garden on Saturdays," said {n}, "and I will pay you." By the end of '
        "[May|June|fall], {h} walked into the toy shop with {h.his} own money and walked out with the {wish}.",
    )


PLOTS = (
    friend_moves,
    shy_child,
    race,
    promise,
    errand,
    train_ride,
    first_day,
    stray_dog,
    stage_fright,
    lost_purse,
)
